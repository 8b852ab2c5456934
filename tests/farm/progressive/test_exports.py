"""Files that are made of takes that grow, held against those that are made of the finished file."""

import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import av
import google_crc32c
import numpy as np
import pytest

from recording_farm.encoder.cut.audio_cut import AS_TAKEN
from recording_farm.encoder.cut.audio_export import export_audio
from recording_farm.encoder.cut.growing_audio import GrowingAudio, GrownFile
from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.formats import AudioCodec, AudioExport, Codec
from recording_farm.encoder.journal import Journal, Lag, write_journal
from recording_farm.encoder.live.hls import TimedText, timed_text_line
from recording_farm.farm.progressive import following
from recording_farm.farm.progressive.exports import Export, exports_of, grown_file
from recording_farm.farm.progressive.following import CLAIM, Following, StoppedError, finish_cut
from recording_farm.farm.progressive.names import cut_name
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.spool import interactive_archive
from recording_farm.farm.spool.interactive_archive import make_archive
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool
from testkit.encoder.beeps import make_take
from testkit.recordings import new_recording

PLACES = [(3.4, 9.5, 3.409), (2.25, 8.0, 2.35)]
"""Where each take's sound begins and ends, and where its picture begins."""

EXPORTS = [AudioExport(codec, channels) for codec, channels in product(AudioCodec, (1, 2))]  # type: ignore[arg-type]
TEXTS = [
    TimedText(0, 4_000_000, "first"),
    TimedText(1, 3_000_000, "second"),
    TimedText(1, 99_000_000, "last"),
]


@pytest.fixture(autouse=True)
def _settled_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SETTLE_US", 500_000)
    monkeypatch.setattr(following, "AUDIO_SETTLE_US", 500_000)
    monkeypatch.setattr(interactive_archive, "SEGMENT_SECONDS", 2)


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Two takes of each kind, by suffix."""
    directory = tmp_path_factory.mktemp("takes")
    return {
        suffix: [
            make_take(
                directory / f"{number}{suffix}",
                begin,
                end,
                picture_from=None if suffix == ".m4a" else picture,
            )
            for number, (begin, end, picture) in enumerate(PLACES)
        ]
        for suffix in (".mp4", ".webm", ".m4a")
    }


@dataclass
class Running:
    """A recording whose takes grow."""

    spool: Spool
    recording: Recording
    sources: list[Path]

    def write(self, number: int, share: float = 1) -> None:
        """Write a take, or the first part of it."""
        data = self.sources[number].read_bytes()
        with self.spool.media(number).open("ab") as file:
            file.write(data[file.tell() : int(len(data) * share)])
        began = time.monotonic_ns() // 1000 - 60_000_000
        journal = Journal(number, 1_790_000_000, 1_790_000_003_500_000, began, 0, lags=(Lag(0, 0),))
        write_journal(self.spool.media(number).with_suffix(".json"), journal)

    @contextmanager
    def followed(self) -> Iterator[list[Export]]:
        """Another process that follows it, and stops at the end of the block, or has finished by then."""
        stopping = threading.Event()
        outbox = Outbox.of(self.spool)
        cut = Following(self.spool, cut_name(self.recording), "a title", stopping.is_set)
        exports = exports_of(self.recording, self.spool, cut)
        ready = threading.Event()

        def run() -> None:
            with outbox.claimed(CLAIM) as mine:
                assert mine
                ready.set()
                for export in exports:
                    export.start()
                try:
                    cut.run(exports)
                except StoppedError:
                    pass
                finally:
                    for export in exports:
                        export.stop()
                        export.join()

        thread = threading.Thread(target=run)
        thread.start()
        assert ready.wait(30)
        try:
            yield exports
        finally:
            stopping.set()
            thread.join(60)
            assert not thread.is_alive()

    def finish(self) -> CutFile:
        return finish_cut(self.spool, cut_name(self.recording), "a title")


@pytest.fixture
def running(takes: dict[str, list[Path]], tmp_path: Path, request: pytest.FixtureRequest) -> Running:
    recording = new_recording(**request.param)
    spool = Spool(tmp_path / "spool", format_of(recording))
    Outbox.of(spool).make()
    return Running(spool, recording, takes[spool.format.take_suffix])


def of(codec: Codec, export: AudioExport) -> dict[str, Any]:
    return {"codec": codec, "audio_file": export, "output_file_name": f"film{codec.suffix}"}


def sound_alone(export: AudioExport) -> dict[str, Any]:
    return {"video_file": False, "audio_file": export, "output_file_name": f"film{export.codec.suffix}"}


def audio_facts(file: Path) -> tuple[Any, ...]:
    with av.open(str(file)) as source:
        (stream,) = source.streams
        facts = source.duration, dict(source.metadata), stream.start_time
        packets = [(each.pts, bytes(each)) for each in source.demux() if each.size]
    with av.open(str(file)) as source:
        samples = np.concatenate([frame.to_ndarray() for frame in source.decode(audio=0)], axis=1)
    return facts, packets, samples.tobytes()


def check_body(file: GrownFile) -> None:
    body = file.path.read_bytes()[-file.body.size :] if file.body.size else b""
    assert google_crc32c.value(body) == file.body.crc32c


def wait_until(is_so: Any) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


CASES = {
    **{
        f"{codec}-{export.codec}-{export.channels}": of(codec, export)
        for codec in Codec
        for export in EXPORTS
    },
    **{
        f"sound-{export.codec}-{export.channels}": sound_alone(export)
        for export in EXPORTS
        if export != AS_TAKEN
    },
}


@pytest.mark.parametrize("running", CASES.values(), ids=CASES, indirect=True)
def test_audio_of_takes_that_grow_should_be_that_of_the_finished_file(
    running: Running, tmp_path: Path
) -> None:
    recording = running.recording
    assert recording.audio_file is not None
    with running.followed() as (export,):
        for number in range(2):
            running.write(number, 0.6)
            time.sleep(0.1)
            running.write(number)
        file = running.finish()
    assert export.grown is not None
    grown = grown_file(Outbox.of(running.spool), export.grown.path.name)
    assert grown == export.grown
    check_body(grown)
    wanted = tmp_path / f"wanted{grown.path.suffix}"
    export_audio(file.path, wanted, recording.audio_file)
    assert audio_facts(grown.path) == audio_facts(wanted)
    if grown.path.suffix == ".mp3":
        assert grown.path.read_bytes() == wanted.read_bytes()
    assert not list(Outbox.of(running.spool).directory.glob(".*.growing"))


MP3 = of(Codec.H264, AudioExport(AudioCodec.MP3))


@pytest.mark.parametrize("running", [MP3], ids=["MP3"], indirect=True)
def test_most_of_the_audio_should_be_made_before_the_end(running: Running) -> None:
    with running.followed() as exports:
        running.write(0)
        running.write(1, 0.2)
        growing = Outbox.of(running.spool).directory / ".film.mp3.growing" / "body"
        wait_until(lambda: growing.exists() and growing.stat().st_size > 100_000)
        running.write(1)
        running.finish()
    assert exports[0].grown is not None


GROWING = {
    "MP3": MP3,
    "AAC": of(Codec.H264, AudioExport(AudioCodec.AAC)),
    "archive": {"timed_texts": True, "output_file_name": "film.tar"},
}


@pytest.mark.parametrize("running", GROWING.values(), ids=GROWING, indirect=True)
def test_bytes_that_are_read_early_should_be_those_of_the_finished_body(running: Running) -> None:
    early: list[bytes] = []

    def has_grown() -> bool:
        data = export.read_body(len(early[0]) if early else 0, 1_000)
        early.extend([data] if data else [])
        return len(early) > 1

    # Without texts, libav holds 10 s of packets for one that may come.
    texts = [TimedText(0, us, "text") for us in range(3_500_000, 9_500_000, 500_000)]
    running.spool.texts.write_text("".join(map(timed_text_line, texts)))
    with running.followed() as (export,):
        assert export.read_body(0, 1) is None
        running.write(0)
        running.write(1, 0.8)
        wait_until(has_grown)
        assert export.read_body(0, 100_000_000) is None
        running.write(1)
        running.finish()
        assert export.read_body(0, 1) is None
    grown = export.grown
    assert grown is not None
    assert grown.identity == export.identity
    assert grown.path.read_bytes()[-grown.body.size :].startswith(b"".join(early))


@pytest.mark.parametrize("running", [MP3], ids=["MP3"], indirect=True)
def test_another_process_should_begin_the_audio_again(running: Running, tmp_path: Path) -> None:
    with running.followed() as exports:
        running.write(0)
        wait_until(lambda: (Outbox.of(running.spool).directory / ".film.mp3.growing").exists())
    assert exports[0].grown is None
    with running.followed() as exports:
        running.write(1)
        file = running.finish()
    grown = exports[0].grown
    assert grown is not None
    export_audio(file.path, tmp_path / "wanted.mp3", AudioExport(AudioCodec.MP3))
    assert grown.path.read_bytes() == (tmp_path / "wanted.mp3").read_bytes()


@pytest.mark.parametrize("running", [MP3], ids=["MP3"], indirect=True)
def test_audio_that_cannot_be_made_should_not_keep_the_film(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(GrowingAudio, "add", fail)
    with running.followed() as exports:
        running.write(0)
        file = running.finish()
    assert file.path.exists()
    assert exports[0].grown is None
    assert grown_file(Outbox.of(running.spool), "film.mp3") is None


@pytest.mark.parametrize("running", [{"timed_texts": True, "output_file_name": "film.tar"}], indirect=True)
def test_archive_of_takes_that_grow_should_be_that_of_the_finished_file(
    running: Running, tmp_path: Path
) -> None:
    with running.followed() as (export,):
        running.spool.texts.write_text(timed_text_line(TEXTS[0]))
        running.write(0)
        wait_until(lambda: list(Outbox.of(running.spool).directory.glob(".film.tar.growing/body")))
        with running.spool.texts.open("a") as file:
            # One whole text, and one that is being written.
            second, last = map(timed_text_line, TEXTS[1:])
            file.write(second + last[:10])
            file.flush()
            running.write(1, 0.7)
            file.write(last[10:])
        running.write(1)
        cut = running.finish()
    assert export.grown is not None
    check_body(export.grown)
    wanted = make_archive(cut, TEXTS, tmp_path / "wanted.tar")
    assert members(export.grown.path) == members(wanted.path)
    assert len(members(wanted.path)) > 4


def members(file: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(file) as archive:
        found = [(member.name, archive.extractfile(member)) for member in archive]
        return [(name, content.read() if content else b"") for name, content in found]
