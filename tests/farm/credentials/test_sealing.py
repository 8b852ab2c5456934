import pytest

from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.errors import SettingsError


def test_text_should_come_back_from_its_seal() -> None:
    sealer = Sealer(b"secret")
    sealed = sealer.seal("会議 key", "recording 1")
    assert "key" not in sealed
    assert sealer.open(sealed, "recording 1") == "会議 key"
    assert sealer.seal("a", "x") != sealer.seal("a", "x")


@pytest.mark.parametrize("sealed", ["", "x", "AAAA", "é"])
def test_what_is_no_seal_should_be_refused(sealed: str) -> None:
    with pytest.raises(SettingsError):
        Sealer(b"secret").open(sealed, "recording 1")


def test_seal_should_open_with_its_own_secret_and_context_alone() -> None:
    sealed = Sealer(b"secret").seal("text", "recording 1")
    for sealer, context in [(Sealer(b"other"), "recording 1"), (Sealer(b"secret"), "recording 2")]:
        with pytest.raises(SettingsError, match="another key"):
            sealer.open(sealed, context)
