"""HLS that is carried to its places while it is made: what becomes of places that are away."""

import asyncio
import json
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.encoder.live.hls import with_gaps
from recording_farm.farm.live import hls
from recording_farm.farm.live.hls import STORE_FAILED, HlsSpec, SegmentReaper, StatusReporter, Uploader
from recording_farm.farm.live.outputs import LiveOutputs, OutputDependencies, Takes
from recording_farm.farm.recording.outputs import Output, OutputKind, OutputState, StreamUrl
from recording_farm.farm.storage.backend import StorageError
from testkit.encoder.takes import make_take
from testkit.recordings import new_recording


class Book:
    """Keeps what is told of an output."""

    def __init__(self) -> None:
        self.output = Output(id=uuid4(), kind=OutputKind.HLS)
        self.told: list[Output] = []

    def wanted(self) -> list[Output]:
        return [self.output]

    def save(self, output: Output) -> None:
        self.told.append(output)

    def url(self, output: Output) -> StreamUrl:
        raise NotImplementedError(output)

    async def until(self, state: OutputState) -> Output:
        async with asyncio.timeout(60):
            while not self.told or self.told[-1].state is not state:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return self.told[-1]


async def test_output_should_be_retrying_while_the_store_is_away_and_live_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool, data = tmp_path / "spool", tmp_path / "data"
    spool.mkdir()
    make_take(spool, seconds=10)
    data.mkdir()
    monkeypatch.setenv("FARM_DATA_DIR", str(data))
    # Of a store below a file nothing can be made, by root neither.
    (data / "store").write_text("in the way")
    recording, book = new_recording(), Book()

    def order(directory: Path) -> HlsSpec:
        return HlsSpec(
            spool=str(spool),
            fps=30,
            audio_only=False,
            directory=str(directory),
            name="film",
            seconds=2,
            recording=recording.model_dump(mode="json"),
        )

    outputs = LiveOutputs(
        OutputDependencies(Takes(spool, 30, audio_only=False), book, AddressRule(), order),
        tmp_path / "outputs",
    )
    running = asyncio.create_task(outputs.run())
    try:
        failing = await book.until(OutputState.RETRYING)
        assert OutputState.LIVE not in {output.state for output in book.told}
        assert failing.retries >= 1
        assert failing.segments >= 1
        # Where the store is, only the farm's own log tells.
        assert failing.error == STORE_FAILED
        told = [record for record in caplog.records if str(data) in record.getMessage()]
        assert told
        assert all(hasattr(record, "not_for_clients") for record in told)
        (data / "store").unlink()
        live = await book.until(OutputState.LIVE)
        assert live.error is None
        assert list((data / "store").rglob("film-00000.ts"))
    finally:
        outputs.end()
        await asyncio.wait_for(running, 60)
    assert book.told[-1].state is OutputState.ENDED
    (playlist,) = (data / "store").rglob("film.m3u8")
    assert "#EXT-X-ENDLIST" in playlist.read_text()


async def test_output_without_a_segment_should_have_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, recording, book, asked = tmp_path / "spool", new_recording(), Book(), threading.Event()
    spool.mkdir()
    monkeypatch.setenv("FARM_DATA_DIR", str(tmp_path / "data"))

    def order(directory: Path) -> HlsSpec:
        asked.set()
        shown = recording.model_dump(mode="json")
        return HlsSpec(str(spool), 30, False, str(directory), "film", seconds=2, recording=shown)

    outputs = LiveOutputs(
        OutputDependencies(Takes(spool, 30, audio_only=False), book, AddressRule(), order),
        tmp_path / "outputs",
    )
    running = asyncio.create_task(outputs.run())
    async with asyncio.timeout(60):
        await asyncio.to_thread(asked.wait)
    outputs.end()
    await asyncio.wait_for(running, 60)
    assert book.told[-1].state is OutputState.FAILED
    assert book.told[-1].error == "the recording ended before the first segment was made"


class Place:
    """A place that takes files once it is `open`."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked = threading.Event()
        self.files: list[str] = []
        self.playlists: list[str] = []

    def put(self, file: Path) -> None:
        self.asked.set()
        if not self.open.is_set():
            raise StorageError("unreachable", "away")
        self.files.append(file.name)
        if file.suffix == ".m3u8":
            self.playlists.append(file.read_text())


def segments(directory: Path, count: int) -> list[Path]:
    made = [directory / f"film-{number:05d}.ts" for number in range(count)]
    for each in made:
        each.touch()
    return made


def playlist_of(files: list[Path]) -> str:
    return "".join(f"#EXTINF:2,\n{file.name}\n" for file in files)


def test_what_waits_for_a_place_should_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hls, "MAX_WAITING", 3)
    monkeypatch.setattr(hls, "RETRY_SECONDS", (0.05,))
    place, made = Place(), segments(tmp_path, 10)
    uploader = Uploader(
        "customers", place.put, tmp_path / "out", SegmentReaper(1), StatusReporter(["customers"])
    )
    uploader.add(made[:1], "film.m3u8", playlist_of(made[:1]))
    assert place.asked.wait(20)
    for number in range(1, 10):
        uploader.add([made[number]], "film.m3u8", playlist_of(made[: number + 1]))
    # The one that is being tried, and the newest three.
    assert [file for file in made if file.exists()] == [made[0], *made[7:]]
    place.open.set()
    assert not uploader.end()
    assert place.files == [made[0].name, "film.m3u8", *(file.name for file in made[7:]), "film.m3u8"]
    gone = [file.name for file in made[1:7]]
    assert place.playlists[-1] == with_gaps(playlist_of(made), gone)
    assert place.playlists[-1].count("#EXT-X-GAP\n") == 6
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[0]["error"] == "away"
    assert said[-1] == {"arrived": True}


def test_output_should_fail_while_one_of_its_places_does(capsys: pytest.CaptureFixture[str]) -> None:
    news = StatusReporter(["store", "customers"])
    news.arrived("store")
    news.failed("customers", "no such bucket")
    news.arrived("store")
    news.arrived("customers")
    news.failed("store", "/data/store is full")
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each.get("error") for each in said] == ["no such bucket", "no such bucket", None, STORE_FAILED]
    assert said[2] == {"arrived": True}


def test_carrier_that_dies_of_a_defect_should_be_known(tmp_path: Path) -> None:
    def put(_: Path) -> None:
        raise ZeroDivisionError

    made = segments(tmp_path, 1)
    uploader = Uploader("store", put, tmp_path / "out", SegmentReaper(1), StatusReporter(["store"]))
    uploader.add(made, "film.m3u8", playlist_of(made))
    assert not uploader.end()
    assert uploader.has_died
