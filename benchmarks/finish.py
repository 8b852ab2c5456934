"""From the stop to UPLOADED, by length and storage: two hours should take no longer than ten seconds.

Takes of these lengths are written to a spool, most of them at once, while the process of a real worker cuts
and uploads them. When it has caught up, the recorder's ending is reported, and the worker does the rest.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from statistics import median
from typing import Any, Final

import psutil
import redis

from benchmarks.long_take import Feed, LongTake, make_long_take
from recording_farm.encoder.formats import AudioCodec, AudioExport, Format
from recording_farm.encoder.live.hls import TimedText, timed_text_line
from recording_farm.encoder.takes.command import FRAGMENT_US
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.embedded import embedded_redis
from recording_farm.farm.jobs.reporter import Reporter
from recording_farm.farm.progressive.following import SETTLE_US
from recording_farm.farm.progressive.sent_parts import read_ahead, targets_ahead
from recording_farm.farm.recorder.listener import EndReason, Outcome
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.transfers import STORE, Transfer
from recording_farm.farm.spool.finished_file import is_intact
from recording_farm.farm.spool.interactive_archive import SUFFIX
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.storage.store import open_store
from recording_farm.farm.storage.targets import TARGET, public
from testkit.machine.load import Stolen
from testkit.recordings import new_recording, sealed_target
from testkit.settings import settings_with
from testkit.storage.places import (
    FILMS,
    Opened,
    Place,
    azure_place,
    gcs_place,
    s3_place,
    sftp_place,
)
from testkit.workers import running_worker

SHORT, HOUR = 10, 3600
LENGTHS: Final[dict[int, int]] = {SHORT: 5, HOUR // 3: 3, 2 * HOUR: 2}
"""Seconds of a recording, and how many are made of each."""

KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "video": {},
    "video and AAC": {"audio_file": AudioExport()},
    "video and MP3": {"audio_file": AudioExport(codec=AudioCodec.MP3)},
    "ID3 archive": {"timed_texts": True},
}
TEXT_SECONDS = 10

DIRECTORY: Final = "directory"
STORES: Final[Mapping[str, Opened | Mapping[str, str]]] = {
    DIRECTORY: {},
    "encrypted directory": {"FARM_STORE_ENCRYPTION": "on"},
    "S3": s3_place,
    "Azurite": azure_place,
}
"""The farm's store: settings of one in the data directory, or a place."""

CUSTOMERS: Final[Mapping[str, Opened]] = {
    "S3, a customer's": s3_place,
    "Azurite, a customer's": azure_place,
    "GCS emulator, a customer's": gcs_place,
    "sshd, a customer's": sftp_place,
}
"""Storages of a customer, besides a store in the data directory."""

_MOST_AFTER: Final = 300
"""Seconds of takes that are longer than wanted, because the worker had not caught up."""

_QUIET_SHARE: Final = 0.35
"""Of a core: a worker that uses less has caught up. Five recordings that are followed use a tenth."""

_QUIET_SECONDS: Final = 3.0
_GAP_SECONDS: Final = 5.0
"""Between two stops. To delete the takes of two hours keeps the disk, and the job, busy for 2 s."""

_LOOK_SECONDS: Final = 0.02
_TIMEOUT: Final = 600


@dataclass(frozen=True)
class Node:
    """A running worker, and what its jobs know."""

    settings: Settings
    redis: redis.Redis
    records: Records
    process: psutil.Process
    customers: Place | None


def run(directory: Path) -> Iterator[str]:
    """Measure each place with the video alone, then each kind of file in a directory."""
    fmt = Format()
    began = time.monotonic()
    take = make_long_take(directory, fmt, max(LENGTHS) + _MOST_AFTER)
    yield f"a take of {take.times[-1] / HOUR:.2f} h was made in {time.monotonic() - began:.0f} s"
    for name in (*STORES, *CUSTOMERS):
        yield from _measure(directory, take, name, "video", LENGTHS)
    for kind in list(KINDS)[1:]:
        yield from _measure(directory, take, DIRECTORY, kind, LENGTHS)


def _measure(directory: Path, take: LongTake, name: str, kind: str, lengths: dict[int, int]) -> Iterator[str]:
    data_dir = directory / f"{name} {kind}".replace(" ", "-").replace("'", "")
    data_dir.mkdir()
    stolen = Stolen.from_now()
    with _opened(name, data_dir) as (settings, place), _node(data_dir / "data", settings, place) as node:
        medians = []
        for length, count in lengths.items():
            times = asyncio.run(_measure_all(node, take, kind, length, count))
            medians.append(median(times))
            each = ", ".join(f"{seconds:.2f}" for seconds in times)
            yield f"{name}, {kind}, {length} s: median {medians[-1]:.2f} s ({each})"
        yield f"{name}, {kind}: {max(medians) - min(medians):.2f} s apart; steal {stolen.share():.1%}"


@contextmanager
def _opened(name: str, directory: Path) -> Iterator[tuple[Mapping[str, str], Place | None]]:
    """The settings of the farm's store, and a customer's storage if that is measured."""
    if name in CUSTOMERS:
        with CUSTOMERS[name](directory) as place:
            yield {}, place
        return
    store = STORES[name]
    if not callable(store):
        yield store, None
        return
    with store(directory) as place:
        yield place.settings, None


@contextmanager
def _node(data_dir: Path, store: Mapping[str, str], customers: Place | None) -> Iterator[Node]:
    """A Redis, and the worker of a node."""
    with embedded_redis(Settings(data_dir=data_dir, redis_url=None)) as server:
        values = {name.removeprefix("FARM_").lower(): value for name, value in store.items()}
        settings = settings_with(data_dir, server.address, allow_private_addresses="all", **values)
        variables = {"FARM_NODE": settings.node, **store}
        within = customers.within if customers is not None else ()
        with (
            connect(server.address) as client,
            running_worker(client, server.address, data_dir, within=within, **variables) as process,
        ):
            yield Node(settings, client, Records(client), psutil.Process(process.pid), customers)


async def _measure_all(node: Node, take: LongTake, kind: str, length: int, count: int) -> list[float]:
    """Seconds from the stop to UPLOADED of so many recordings, made at once and stopped one by one."""
    async with AsyncExitStack() as running:
        recorders = [
            await running.enter_async_context(_recorder(node, take, kind, length)) for _ in range(count)
        ]
        await _wait_until_caught_up(node, recorders, length)
        times = []
        for recorder in recorders:
            await asyncio.sleep(_GAP_SECONDS)
            recording = await recorder.stop()
            times.append(_seconds_to_uploaded(recording))
            if length < 2 * HOUR:
                await asyncio.to_thread(_check_content, node, recording)
    return times


class _Recorder:
    """Does what a recorder does for the rest of the farm."""

    def __init__(self, node: Node, recording: Recording, feed: Feed, reporter: Reporter) -> None:
        self.recording = recording
        self.feed = feed
        self._node = node
        self._reporter = reporter
        self._feeding = asyncio.create_task(self._feed())
        self._reporting = asyncio.create_task(reporter.run())

    async def _feed(self) -> None:
        while True:
            await asyncio.sleep(FRAGMENT_US / 1e6)
            self.feed.advance()

    async def stop(self) -> Recording:
        """End the recording; returns it as it is once it is UPLOADED."""
        self._feeding.cancel()
        journal = self.feed.end()
        await self._reporter.take_ended(journal)
        await self._reporter.ended(Outcome(EndReason.STOPPED, None, started=True))
        async with asyncio.timeout(_TIMEOUT):
            while True:
                recording = self._node.records.get(None, self.recording.id)
                if recording.status is Status.UPLOADED:
                    break
                assert recording.status is not Status.ERRORED, recording.error
                await asyncio.sleep(_LOOK_SECONDS)
        assert recording.recording_duration is not None
        assert abs(recording.recording_duration - self.feed.seconds_written) < 1
        return recording

    async def close(self) -> None:
        """End what runs beside it."""
        for task in (self._feeding, self._reporting):
            task.cancel()
        await asyncio.gather(self._feeding, self._reporting, return_exceptions=True)


@asynccontextmanager
async def _recorder(node: Node, take: LongTake, kind: str, length: int) -> AsyncIterator[_Recorder]:
    recording = _add(node, take, kind)
    spool = spool_of(recording, node.settings)
    spool.make()
    with spool.held():
        if recording.timed_texts:
            spool.begin_texts()
            spool.texts.write_text("".join(_texts(length)))
        feed = await asyncio.to_thread(Feed, take, spool, length if length > SHORT else 0)
        reporter = Reporter(recording, node.settings, node.records, node.redis)
        await reporter.recording(feed.journal)
        recorder = _Recorder(node, recording, feed, reporter)
        try:
            yield recorder
        finally:
            await recorder.close()


def _add(node: Node, take: LongTake, kind: str) -> Recording:
    target = node.customers.target if node.customers is not None else None
    fields = {"meeting_id": f"bench-{token_hex(4)}", "profile": take.format.profile, **KINDS[kind]}
    places = [STORE] if target is None else [STORE, str(target["type"])]
    recording = new_recording(**fields, transfers=tuple(Transfer(target=place) for place in places))
    changes: dict[str, Any] = {}
    if recording.timed_texts:
        changes["output_file_name"] = str(Path(recording.output_file_name).with_suffix(SUFFIX))
    sealed = None
    if target is not None:
        changes["storage_config"] = public(TARGET.validate_python(target))
        sealed = sealed_target(node.settings, recording, dict(target))
    recording = node.records.add(recording.model_copy(update=changes), target=sealed)
    return node.records.claim(recording, node.settings.node, slot=1)


def _texts(length: int) -> Iterator[str]:
    for second in range(1, length, TEXT_SECONDS):
        yield timed_text_line(TimedText(0, (second + 1) * 1_000_000, f'{{"said": "at {second} s"}}'))


async def _wait_until_caught_up(node: Node, recorders: Sequence[_Recorder], length: int) -> None:
    """Wait until the takes have their length, and the worker has cut and sent what it can of them."""
    async with asyncio.timeout(_TIMEOUT):
        await asyncio.sleep(max(length - recorder.feed.seconds for recorder in recorders))
        while not (await _is_quiet(node) and all(_is_sent(node, recorder) for recorder in recorders)):
            pass
    # Within 30 s the kernel writes by itself: what hours have written does not wait for the disk at the end.
    await asyncio.to_thread(os.sync)


def _is_sent(node: Node, recorder: _Recorder) -> bool:
    """Whether all of a take is cut and sent that may be before its end, but for a few seconds."""
    behind = SETTLE_US / 1e6 + 2 * _QUIET_SECONDS
    if recorder.feed.seconds < behind:
        return True
    outbox = Outbox.of(spool_of(recorder.recording, node.settings))
    try:
        state = json.loads((outbox.directory / ".cut" / "state").read_text())
    except FileNotFoundError:
        return False
    cut_seconds = state["join"]["picture_end"] / format_of(recorder.recording).timescale
    sent = [ahead for target in targets_ahead(outbox) if (ahead := read_ahead(outbox, target)) is not None]
    return cut_seconds > recorder.feed.seconds - behind and all(
        state["body"] - ahead.end < 2 * ahead.part_bytes for ahead in sent
    )


async def _is_quiet(node: Node) -> bool:
    """Whether the worker does hardly anything: neither cutting nor sending."""
    before = _processor_seconds(node.process)
    await asyncio.sleep(_QUIET_SECONDS)
    return _processor_seconds(node.process) - before < _QUIET_SHARE * _QUIET_SECONDS


def _processor_seconds(top: psutil.Process) -> float:
    total = 0.0
    for process in (top, *top.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _seconds_to_uploaded(recording: Recording) -> float:
    uploaded = next(entry.time for entry in recording.timeline if entry.status is Status.UPLOADED)
    assert recording.stopped_time is not None
    return (uploaded - recording.stopped_time).total_seconds()


def _check_content(node: Node, recording: Recording) -> None:
    """Compare what the storages have with the checksum of the file that was made."""
    main = recording.files[0]
    copy = node.settings.data_dir / "copy"
    open_store(node.settings).fetch(recording.id, main.name, copy)
    assert is_intact(copy, main)
    if node.customers is not None:
        copy.write_bytes(node.customers.read(FILMS, main.name))
        assert is_intact(copy, main)
    copy.unlink()
