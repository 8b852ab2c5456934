"""A spool that is replicated to a store while it grows, and restored in another directory."""

import shutil
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.live.hls import TimedText, timed_text_line
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.progressive import following, replica_contents, restore
from recording_farm.farm.progressive.following import finish_cut
from recording_farm.farm.progressive.replica import ReplicaWriter, drop_replica
from recording_farm.farm.progressive.restore import NotRestorableError, restore_if_behind
from recording_farm.farm.progressive.restored import give_up_restoring, is_restoring, read_restored
from recording_farm.farm.recording.findings import Count, Finding, Tally, keep_tally, total_tally
from recording_farm.farm.recording.model import Recording, TimelineEntry
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool
from recording_farm.farm.storage.backends.directory import DirectoryBackend
from recording_farm.farm.storage.store import Store
from testkit.encoder.growing_takes import SECONDS, cut_for, grow, make_takes, packets_of, seconds_of
from testkit.recordings import new_recording
from testkit.settings import settings_with

FORMATS = [Format(Codec.H264, 320, 180), Format(Codec.VP8, 320, 180)]


@pytest.fixture(autouse=True)
def _settled_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SETTLE_US", 500_000)


@pytest.fixture(scope="module", params=FORMATS, ids=lambda fmt: fmt.codec)
def takes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Spool:
    """A spool with two whole takes."""
    fmt: Format = request.param
    spool = Spool(tmp_path_factory.mktemp("takes"), fmt)
    make_takes(spool, 2)
    return spool


@pytest.fixture
def settings(tmp_path: Path, redis_address: str) -> Settings:
    return settings_with(tmp_path / "data", redis_address)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(DirectoryBackend(tmp_path / "store"))


@pytest.fixture
def recording() -> Recording:
    return new_recording()


def spool_at(directory: Path, takes: Spool) -> Spool:
    spool = Spool(directory, takes.format)
    Outbox.of(spool).make()
    return spool


def test_another_node_should_continue_what_was_replicated(
    takes: Spool, tmp_path: Path, store: Store, recording: Recording, settings: Settings
) -> None:
    name = f"out{takes.format.take_suffix}"
    first = spool_at(tmp_path / "first", takes)
    writer = ReplicaWriter(first, store, recording.id)
    for tenths in range(2, 10):
        grow(takes, first, 0, Fraction(tenths, 10))
        cut_for(first, name, 0.3)
        writer.write()
    body = (first.directory / "out/.cut/body").stat().st_size
    assert body > takes.media(0).stat().st_size // 2
    shutil.rmtree(first.directory)

    second = spool_at(tmp_path / "second", takes)
    grow(takes, second, 1)
    restore_if_behind(second, store, recording, settings)
    assert (second.directory / "out/.cut/body").stat().st_size > takes.media(0).stat().st_size // 2
    made = finish_cut(second, name, "title")

    # The same as of all that the first node had, at once.
    whole = spool_at(tmp_path / "whole", takes)
    grow(takes, whole, 0, Fraction(9, 10))
    grow(takes, whole, 1)
    assert packets_of(made.path) == packets_of(finish_cut(whole, name, "title").path)
    assert [joint.take for joint in made.joints] == [0, 1]
    assert seconds_of(made.path) == pytest.approx(SECONDS * 1.9, abs=0.6)


def test_recording_that_comes_back_to_its_first_node_should_have_each_finding_and_text_once(
    takes: Spool, tmp_path: Path, store: Store, recording: Recording, settings: Settings
) -> None:
    def record(spool: Spool, take: int) -> None:
        """What a recorder writes besides its take; the number of the take is that of take-overs."""
        grow(takes, spool, take % 2)
        keep_tally(spool.directory, Tally({Finding.NO_SOUND: Count(1, take + 1)}), take)
        with spool.texts.open("a") as texts:
            texts.writelines(timed_text_line(TimedText(take, us, "same words")) for us in (1, 2))

    first = spool_at(tmp_path / "first", takes)
    record(first, 0)
    ReplicaWriter(first, store, recording.id).write()
    second = spool_at(tmp_path / "second", takes)
    record(second, 1)
    restore_if_behind(second, store, recording, settings)
    ReplicaWriter(second, store, recording.id).write()
    # The first node still has what it wrote before it was lost.
    with first.texts.open("a") as texts:
        texts.write(timed_text_line(TimedText(2, 1, "third")))
    keep_tally(first.directory, Tally({Finding.NO_SOUND: Count(1, 3)}), 2)
    restore_if_behind(first, store, recording, settings)

    assert total_tally(first.directory).findings == {Finding.NO_SOUND: Count(3, 6)}
    everything = [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]
    assert [(text.take, text.us) for text in first.all_texts()] == everything


def test_process_that_starts_in_a_long_take_should_replicate_its_end_at_once(
    takes: Spool,
    tmp_path: Path,
    store: Store,
    recording: Recording,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"out{takes.format.take_suffix}"
    first = spool_at(tmp_path / "first", takes)
    writer = ReplicaWriter(first, store, recording.id)
    for tenths in range(2, 10):
        grow(takes, first, 0, Fraction(tenths, 10))
        cut_for(first, name, 0.3)
        writer.write()
    # The process dies, and another one starts. To it, every take is long.
    monkeypatch.setattr(replica_contents, "_MOST_TAIL", 0)
    writer = ReplicaWriter(first, store, recording.id)
    assert not writer.write()
    second = spool_at(tmp_path / "second", takes)
    restore_if_behind(second, store, recording, settings)
    take = first.media(0).stat().st_size
    assert second.media(0).stat().st_size < take * 3 // 4
    made = finish_cut(second, name, "title")
    # A cluster of WebM that is not whole is left out.
    assert seconds_of(made.path) == pytest.approx(SECONDS * 0.9, abs=1)
    # Without the marks of the process before it, it has to wait for its own.
    (Outbox.of(first).directory / ".marks.json").unlink()
    with pytest.raises(OSError, match="not known yet"):
        ReplicaWriter(first, store, recording.id).write()


def test_state_before_should_be_restored_if_the_newest_object_is_damaged(
    takes: Spool, tmp_path: Path, store: Store, recording: Recording, settings: Settings
) -> None:
    first = spool_at(tmp_path / "first", takes)
    writer = ReplicaWriter(first, store, recording.id)
    for tenths in (4, 6, 8):
        grow(takes, first, 0, Fraction(tenths, 10))
        writer.write()
    newest = max((tmp_path / "store/.spool" / str(recording.id)).iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    second = spool_at(tmp_path / "second", takes)
    restore_if_behind(second, store, recording, settings)
    made = finish_cut(second, f"out{takes.format.take_suffix}", "title")
    assert seconds_of(made.path) == pytest.approx(SECONDS * 0.6, abs=0.6)


def test_replica_that_is_not_usable_should_be_said_and_kept(
    takes: Spool, tmp_path: Path, store: Store, recording: Recording, settings: Settings
) -> None:
    first = spool_at(tmp_path / "first", takes)
    grow(takes, first, 0, Fraction(1, 2))
    ReplicaWriter(first, store, recording.id).write()
    objects = list((tmp_path / "store/.spool" / str(recording.id)).iterdir())
    for each in objects:
        each.write_bytes(b"RFR2 of a newer version")
    second = spool_at(tmp_path / "second", takes)
    with pytest.raises(NotRestorableError, match="another format"):
        restore_if_behind(second, store, recording, settings)
    assert all(each.exists() for each in objects)
    assert second.numbers() == set()


def test_replica_that_is_given_up_should_stay_in_the_store(
    takes: Spool, tmp_path: Path, store: Store, recording: Recording, redis_address: str
) -> None:
    settings = settings_with(tmp_path / "data", redis_address, store_url=f"file://{tmp_path}/store")
    first = spool_at(tmp_path / "first", takes)
    grow(takes, first, 0, Fraction(1, 2))
    ReplicaWriter(first, store, recording.id).write()
    objects = set((tmp_path / "store/.spool" / str(recording.id)).iterdir())
    for each in objects:
        each.write_bytes(b"RFR2 of a newer version")
    second = spool_at(tmp_path / "second", takes)
    with pytest.raises(NotRestorableError) as raised:
        restore_if_behind(second, store, recording, settings)
    give_up_restoring(Outbox.of(second), raised.value.generation)
    grow(takes, second, 1)
    for _ in range(2):
        # Also the next process must leave it.
        ReplicaWriter(second, store, recording.id).write()
    assert objects < set((tmp_path / "store/.spool" / str(recording.id)).iterdir())
    drop_replica(Outbox.of(second), recording, settings)
    assert set((tmp_path / "store/.spool" / str(recording.id)).iterdir()) == objects


@pytest.mark.parametrize("moved", ["take", "everything"])
def test_restore_that_is_killed_should_be_done_again_and_know_where_the_takes_end(
    takes: Spool,
    tmp_path: Path,
    store: Store,
    recording: Recording,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    moved: str,
) -> None:
    first = spool_at(tmp_path / "first", takes)
    grow(takes, first, 0, Fraction(1, 2))
    writer = ReplicaWriter(first, store, recording.id)
    # The recorder has begun a take whose journal is written a moment later.
    journal = first.media(0).with_suffix(".json")
    content = journal.read_bytes()
    journal.unlink()
    writer.write()
    journal.write_bytes(content)
    writer.write()

    def killed(*arguments: object) -> None:
        if moved == "take":
            move(*arguments)  # type: ignore[arg-type]
        raise ConnectionAbortedError

    move = restore._move_take
    second = spool_at(tmp_path / "second", takes)
    with monkeypatch.context() as patch:
        patch.setattr(restore, "_move_take" if moved == "take" else "_take_uploads_over", killed)
        with pytest.raises(ConnectionAbortedError):
            restore_if_behind(second, store, recording, settings)
    assert is_restoring(Outbox.of(second))
    restore_if_behind(second, store, recording, settings)
    third = spool_at(tmp_path / "third", takes)
    restore_if_behind(third, store, recording, settings)
    restored = read_restored(Outbox.of(second))
    assert restored is not None
    assert restored.last_take == 0
    assert restored == read_restored(Outbox.of(third))
    assert not is_restoring(Outbox.of(second))


def test_end_of_a_take_should_not_replace_the_whole_one_that_was_set_aside(
    takes: Spool, tmp_path: Path, recording: Recording, settings: Settings
) -> None:
    lost = TimelineEntry(event="fault", fault="gone", node="node-2", time=now() + timedelta(hours=1))
    recording = recording.model_copy(update={"timeline": (lost,)})
    first = spool_at(tmp_path / "first", takes)
    aside = settings.superseded_dir / str(recording.id) / first.media(0).name
    for tenths in (9, 3):
        # The second time it is what was restored, when the recording had come back.
        grow(takes, first, 0, Fraction(tenths, 10))
        whole = max(first.media(0).stat().st_size, aside.stat().st_size if aside.exists() else 0)
        restore._set_old_takes_aside(first, recording, settings)
        assert not first.media(0).exists()
    assert aside.stat().st_size == whole
