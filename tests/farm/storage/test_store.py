from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.errors import NotFoundError, SettingsError
from recording_farm.farm.storage.backend import Checkpoint, Part
from recording_farm.farm.storage.parts import SentPart
from recording_farm.farm.storage.store import open_store
from testkit.settings import settings_with

ID = uuid4()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    file = tmp_path / "film.mp4"
    file.write_bytes(b"film" * 100)
    return file


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "checkpoint")


def test_files_should_lie_by_recording_in_the_directory(
    settings: Settings, film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    store = open_store(settings)
    store.put(ID, film, "a.mp4", checkpoint)
    assert (settings.data_dir / "store" / str(ID) / "a.mp4").read_bytes() == film.read_bytes()
    store.fetch(ID, "a.mp4", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == film.read_bytes()
    store.delete(ID, "a.mp4")
    store.delete(ID, "a.mp4")
    with pytest.raises(NotFoundError):
        store.open(ID, "a.mp4")


def test_encryption_should_be_switched_on_by_its_setting(
    settings: Settings, film: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("FARM_STORE_ENCRYPTION", "on")
    store = open_store(load_settings())
    store.put(ID, film, "a.mp4", checkpoint)
    assert b"film" not in (settings.data_dir / "store" / str(ID) / "a.mp4").read_bytes()
    with closing(store.open(ID, "a.mp4")) as file:
        assert file.size == 400
        assert b"".join(file.pieces(2, 10)) == b"lmfilmfi"


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "a\0b", "x" * 201])
def test_name_that_is_no_plain_name_should_be_refused(
    settings: Settings, film: Path, checkpoint: Checkpoint, name: str
) -> None:
    store = open_store(settings)
    with pytest.raises(ValueError, match="plain name"):
        store.put(ID, film, name, checkpoint)
    with pytest.raises(NotFoundError):
        store.open(ID, name)
    with pytest.raises(NotFoundError):
        store.open("../..", "a.mp4")


def test_store_elsewhere_should_serve_nothing_here(tmp_path: Path) -> None:
    settings = settings_with(
        tmp_path,
        None,
        store_url="s3://films?endpoint=http://127.0.0.1:9",
        store_access_key="k",
        store_secret="s",
    )
    store = open_store(settings)
    link = store.link(ID, "a.mp4", 60)
    assert link is not None
    assert link.startswith(f"http://127.0.0.1:9/films/{ID}/a.mp4?")
    with pytest.raises(NotFoundError):
        store.open(ID, "a.mp4")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"store_url": "azure://films"}, "FARM_STORE_SECRET"),
        ({"store_url": "azure://films", "store_secret": "hunter2"}, "connection string"),
        (
            {
                "store_url": "azure://films",
                "store_secret": "BlobEndpoint=https://a.example/;SharedAccessSignature=sig=hunter2",
            },
            "AccountKey",
        ),
        ({"store_url": "s3://films", "store_encryption": "on"}, "FARM_STORE_ENCRYPTION"),
    ],
)
def test_settings_that_make_no_store_should_be_said(
    tmp_path: Path, values: dict[str, str], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason) as refused:
        open_store(settings_with(tmp_path, None, **values))
    assert "hunter2" not in str(refused.value)


def test_file_should_be_uploaded_in_parts_by_recording_and_name(settings: Settings) -> None:
    store = open_store(settings)
    other = store.begin_parts(uuid4(), "b.mp4")
    begun = store.begin_parts(ID, "a.mp4")
    parts = [(Part(2, 0, 4), b"body"), (Part(1, 0, 4), b"head")]
    sent = [SentPart(part, store.send_part(ID, "a.mp4", begun, part, data)) for part, data in parts]
    assert [(each.name, each.begun) for each in store.unfinished_parts(ID)] == [("a.mp4", begun)]
    assert store.finish_parts(ID, "a.mp4", begun, sent).size == 8
    with closing(store.open(ID, "a.mp4")) as file:
        assert b"".join(file.pieces(0, 8)) == b"headbody"
    [left] = store.unfinished_parts()
    assert left.begun == other
    store.abort_parts(left.recording_id, left.name, left.begun)
    assert list(store.unfinished_parts()) == []


def test_small_objects_should_be_no_files_and_be_found_by_recording(settings: Settings) -> None:
    store = open_store(settings)
    other = uuid4()
    for recording_id, name in ((ID, "1.piece"), (ID, "2.piece"), (other, "1.piece")):
        store.put_bytes(recording_id, name, memoryview(b"piece " + name.encode()))
    assert sorted(store.list_names(ID)) == ["1.piece", "2.piece"]
    assert store.get_bytes(ID, "2.piece", 100) == b"piece 2.piece"
    assert set(store.spooled()) == {ID, other}
    for name in ("1.piece", ".spool"):
        with pytest.raises(NotFoundError):
            store.open(ID, name)
    store.delete_many(ID, ["1.piece", "gone"])
    assert list(store.list_names(ID)) == ["2.piece"]
    for _ in range(2):
        store.delete_spool(ID)
        store.delete_spool(other)
    assert list(store.spooled()) == []
    assert list((settings.data_dir / "store").iterdir()) == []
    with pytest.raises(ValueError, match="plain name"):
        store.put_bytes(ID, "../1.piece", b"")
