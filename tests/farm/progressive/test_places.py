from pathlib import Path

import pytest

from recording_farm.farm.progressive.places import is_linked, place_in_store
from recording_farm.farm.storage.store import open_store
from testkit.recordings import new_recording
from testkit.settings import settings_with


@pytest.mark.parametrize(
    ("is_inside", "is_encrypted", "needs_parts"),
    [(True, False, False), (True, True, True), (False, False, True), (False, True, True)],
)
def test_store_should_get_parts_unless_a_hard_link_is_all_it_needs(
    tmp_path: Path, *, is_inside: bool, is_encrypted: bool, needs_parts: bool
) -> None:
    store = tmp_path / ("data/store" if is_inside else "store")
    encryption = "on" if is_encrypted else "off"
    settings = settings_with(
        tmp_path / "data", None, store_url=f"file://{store}", store_encryption=encryption
    )
    settings.data_dir.mkdir(exist_ok=True)
    place = place_in_store(open_store(settings), new_recording(), settings)
    assert (place is not None, is_linked(settings)) == (needs_parts, not needs_parts)
