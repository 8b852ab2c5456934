"""Takes that cannot start as they should, because the machine has something too little."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recording_farm.encoder.errors import EncoderError
from recording_farm.encoder.formats import Format
from recording_farm.encoder.takes.command import Source, TakeFiles
from recording_farm.encoder.takes.take import Take
from testkit.machine.disks import fill, small_disk

# There is no such sound, so ffmpeg ends with words behind its first gate.
SOURCE = Source(":0", Path("/nowhere/xauthority"), "unix:/nowhere/pulse.sock", "stage.monitor")


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open nothing more."""
    least = os.dup(0)
    os.close(least)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_ffmpeg_that_cannot_be_started_should_be_a_fault_of_the_encoder(tmp_path: Path) -> None:
    files = TakeFiles(tmp_path, 0, ".mp4")
    with no_more_files(), pytest.raises(EncoderError, match=r"ffmpeg did not start: .*Too many open files"):
        await Take.load(SOURCE, files, Format())
    assert os.listdir(tmp_path) == []


async def test_spool_that_is_gone_should_be_a_fault_of_the_encoder(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"ffmpeg did not start: .*No such file"):
        await Take.load(SOURCE, TakeFiles(tmp_path / "gone", 0, ".mp4"), Format())


async def test_gate_that_cannot_be_opened_should_be_a_fault_of_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It must have started for that.
    started = Take.__init__

    def start(take: Take, *arguments: object) -> None:
        started(take, *arguments)  # type: ignore[arg-type]
        take.files.sound_gate.unlink()

    monkeypatch.setattr(Take, "__init__", start)
    with pytest.raises(EncoderError, match=r"gate cannot be opened: .*No such file"):
        await Take.load(SOURCE, TakeFiles(tmp_path, 0, ".mp4"), Format())


async def test_log_that_cannot_be_written_should_be_no_fault(tmp_path: Path) -> None:
    with small_disk(tmp_path / "spool", 1):
        fill(tmp_path / "spool")
        take = await Take.load(SOURCE, TakeFiles(tmp_path / "spool", 0, ".mp4"), Format())
        with pytest.raises(EncoderError, match="ffmpeg ended with"):
            await take.begin()
        await take.kill()
        assert take.files.log.stat().st_size == 0
