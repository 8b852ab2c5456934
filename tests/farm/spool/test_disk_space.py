"""What a node's disk must have room for."""

from pathlib import Path

from recording_farm.encoder.formats import Format
from recording_farm.farm.recorder.observer import observe_disk
from recording_farm.farm.spool.disk_space import space_for_cuts
from recording_farm.farm.spool.outbox import Outbox, remove_takes
from recording_farm.farm.spool.spool import Spool


def spool_with(directory: Path, *takes: int) -> Spool:
    """A spool with takes of so many bytes."""
    spool = Spool(directory, Format())
    spool.make()
    for number, size in enumerate(takes):
        (directory / f"take-{number:03d}.mp4").write_bytes(bytes(size))
    return spool


def test_room_should_be_kept_for_every_cut_until_it_is_written(tmp_path: Path) -> None:
    spool_dir = tmp_path / "spool"
    assert space_for_cuts(spool_dir) == 0
    spool = spool_with(spool_dir / "a-b-c-d-1", 300, 200)
    spool_with(spool_dir / "a-b-c-d-2", 1000)
    assert space_for_cuts(spool_dir) == 1500
    assert observe_disk(spool.directory).space_for_cuts == 1500
    outbox = Outbox.of(spool)
    outbox.make()
    # What the cut has written is not free any more, nor needed: in sum nothing changes for the others.
    partial = outbox.directory / ".film.mp4.partial"
    partial.write_bytes(bytes(400))
    assert space_for_cuts(spool_dir) == 1100
    partial.write_bytes(bytes(510))
    assert space_for_cuts(spool_dir) == 1000
    remove_takes(spool)
    assert space_for_cuts(spool_dir) == 1000


def test_interactive_recording_should_have_room_for_film_and_archive(tmp_path: Path) -> None:
    spool = spool_with(tmp_path / "a-b-c-d-1", 100)
    spool.begin_texts()
    assert space_for_cuts(tmp_path) == 300
    outbox = Outbox.of(spool)
    growing = outbox.directory / ".film.tar.growing"
    growing.mkdir(parents=True)
    (growing / "body").write_bytes(bytes(90))
    assert space_for_cuts(tmp_path) == 210
