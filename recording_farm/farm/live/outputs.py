"""The live outputs of a recording while it is made: each has a program, which is started again when it ends.

The record says which outputs are wanted, and is told how each of them is. It is read again when somebody says
that it has changed, and every few seconds in case nobody could.
"""

import asyncio
import logging
import os
import shutil
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import redis

from recording_farm.browser_bot.network.addresses import AddressError, AddressRule, destination_at
from recording_farm.browser_bot.network.dns import why_unresolved
from recording_farm.browser_bot.network.host_names import in_url
from recording_farm.farm.db.faults import Outage
from recording_farm.farm.errors import FarmError
from recording_farm.farm.live.hls import HlsSpec
from recording_farm.farm.live.program import OutputProgram
from recording_farm.farm.live.stream import StreamOrder
from recording_farm.farm.recording.outputs import OVER, Output, OutputKind, OutputState, StreamUrl
from recording_farm.farm.telemetry.recording_log import NOT_FOR_CLIENTS

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
END_SECONDS: Final = 5.0
"""How long a receiver may take to get the last of the stream."""

HLS_END_SECONDS: Final = 60.0
"""The same of the places that HLS is carried to."""

PAUSES: Final = 1.0, 2.0, 4.0, 8.0, 15.0
"""Seconds between tries; the last is that of all that follow. One that was live begins anew."""

RW_TIMEOUT_US: Final = 10_000_000
"""How long one write to a receiver may take."""

_SRT_OPTIONS: Final = {
    "streamid": "-srt_streamid",
    "passphrase": "-passphrase",
    "pbkeylen": "-pbkeylen",
    "latency": "-latency",
    "pkt_size": "-pkt_size",
}
"""What ffmpeg calls the options of an SRT URL."""

_MAX_ERROR: Final = 300
_TELL_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Takes:
    """A recording's takes, for those who follow them: their directory, and how they are encoded."""

    directory: Path
    fps: int
    audio_only: bool


class OutputBook(Protocol):
    """Where outputs are written down. Blocking; raises redis.RedisError or OSError when it cannot be had."""

    def wanted(self) -> list[Output]:
        """The recording's outputs as the record has them."""

    def tell(self, output: Output) -> None:
        """How an output is now; of one that was removed meanwhile nothing is changed."""

    def url(self, output: Output) -> StreamUrl:
        """Where an RTMP or SRT output goes, with its secrets. Raises FarmError when that is not kept."""


@dataclass(frozen=True)
class OutputDependencies:
    """What live outputs need: the takes, their records, the address rule, and the HLS to make.

    Connections are made where `rule` allows it. `hls_spec` says what HLS is made, in a directory.
    """

    takes: Takes
    book: OutputBook
    rule: AddressRule
    hls_spec: Callable[[Path], HlsSpec]


class LiveOutputs:
    """Keeps a recording's outputs going. `run` is called once, `end` when its last take is closed."""

    def __init__(self, dependencies: OutputDependencies, directory: Path) -> None:
        """`directory` is for what the programs make."""
        self._dependencies = dependencies
        self._directory = directory
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._supervisors: dict[UUID, _OutputSupervisor] = {}
        self._outage = Outage("the outputs cannot be looked up")

    def look_again(self) -> None:
        """The record has changed."""
        self._changed.set()

    def end(self) -> None:
        """The recording is over: have the programs come to their end."""
        self._ending.set()
        self._changed.set()

    async def run(self) -> None:
        """Keep them going until `end`, and then until all have come to theirs."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            async with asyncio.TaskGroup() as tasks:
                while not self._ending.is_set():
                    for output in await self._wanted():
                        self._keep(output, tasks)
                    await _wait_for(self._changed, LOOK_SECONDS)
                    self._changed.clear()
                for supervisor in self._supervisors.values():
                    supervisor.end(OutputState.ENDED)
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _wanted(self) -> list[Output]:
        try:
            wanted = await asyncio.to_thread(self._dependencies.book.wanted)
        except redis.RedisError as error:
            self._outage.failed(error)
            return []
        except FarmError as error:
            logger.warning("the outputs cannot be looked up: %s", error)
            return []
        self._outage.recovered()
        return wanted

    def _keep(self, output: Output, tasks: asyncio.TaskGroup) -> None:
        supervisor = self._supervisors.get(output.id)
        if supervisor is not None:
            if output.state is OutputState.REMOVED:
                supervisor.end(OutputState.REMOVED)
        elif output.state not in OVER:
            supervisor = _OutputSupervisor(output, self._dependencies, self._directory / str(output.id))
            self._supervisors[output.id] = supervisor
            tasks.create_task(supervisor.run())


class _OutputSupervisor:
    """Runs the program of one live output, and restarts it."""

    def __init__(self, output: Output, dependencies: OutputDependencies, directory: Path) -> None:
        self._output = output
        self._dependencies = dependencies
        self._directory = directory
        self._ending = asyncio.Event()
        self._end_state = OutputState.ENDED
        self._program: OutputProgram | None = None
        self._changes = asyncio.Event()
        self._was_live = False
        self._tries = 0
        self._error: str | None = None

    def end(self, state: OutputState) -> None:
        """Have it end, for the reason that `state` is."""
        if not self._ending.is_set():
            self._end_state = state
            self._ending.set()
        if self._program is not None:
            self._program.end()

    async def run(self) -> None:
        telling = asyncio.create_task(self._tell())
        try:
            code = await self._run_until_it_ends()
        except Exception:
            # A defect of ours must not end the recording beside it.
            logger.exception("output %s", self._output.id)
            code = 1
        self._say(state=self._end_state if code == 0 or self._is_stream else OutputState.FAILED)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        try:
            async with asyncio.timeout(_TELL_SECONDS):
                await self._tell_once()
        except TimeoutError:
            logger.warning("output %s: its end could not be told", self._output.id)

    @property
    def _is_stream(self) -> bool:
        return self._output.kind is not OutputKind.HLS

    async def _run_until_it_ends(self) -> int:
        """The exit code of the last program; that of one that ended by itself is none."""
        tries = 0
        while not self._ending.is_set():
            self._was_live = False
            code = await self._run_program()
            if self._ending.is_set():
                return code
            tries = 0 if self._was_live else tries
            pause = PAUSES[min(tries, len(PAUSES) - 1)]
            tries += 1
            retries = self._output.retries + 1
            why = self._error or self._last_words()
            logger.warning("output %s is tried again in %.0f s: %s", self._output.id, pause, why)
            error = self._error or "the program that sends it has failed; the node's log says why"
            self._say(state=OutputState.RETRYING, retries=retries, error=error)
            await _wait_for(self._ending, pause)
        return 1

    def _last_words(self) -> str:
        log = self._directory / "log"
        return log.read_text(errors="replace").strip()[-_MAX_ERROR:] if log.exists() else ""

    async def _run_program(self) -> int:
        self._error = None
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(mode=0o700)
        try:
            program = await self._new_program()
        except (AddressError, FarmError, redis.RedisError) as error:
            self._error = str(error)
            return 1
        self._program = program
        if self._ending.is_set():
            program.end()
        try:
            return await program.run(END_SECONDS if self._is_stream else HLS_END_SECONDS)
        finally:
            self._program = None

    async def _new_program(self) -> OutputProgram:
        log = self._directory / "log"
        if not self._is_stream:
            order = await asyncio.to_thread(self._dependencies.hls_spec, self._directory)
            return OutputProgram(
                "recording_farm.farm.live.hls", order, log, self._heard, environment=os.environ
            )
        url = await asyncio.to_thread(self._dependencies.book.url, self._output)
        destination = await destination_at(url.host, url.port, self._dependencies.rule)
        if not destination.addresses:
            raise AddressError(why_unresolved(url.host))
        # Of a name with several addresses each has its turn: one of them may be dead.
        address = destination.addresses[self._tries % len(destination.addresses)]
        self._tries += 1
        stream = StreamOrder(
            spool=str(self._dependencies.takes.directory),
            fps=self._dependencies.takes.fps,
            audio_only=self._dependencies.takes.audio_only,
            arguments=stream_arguments(url, str(address)),
            secrets=list(url.secrets),
        )
        return OutputProgram("recording_farm.farm.live.stream", stream, log, self._heard)

    def _heard(self, said: Any) -> None:
        if "error" in said:
            self._error = str(said["error"])[:_MAX_ERROR]
            if self._output.kind is OutputKind.HLS:
                # It goes on trying by itself.
                retries = self._output.retries + bool(said.get("failed"))
                if "reason" in said:
                    logger.warning("output %s: %s", self._output.id, said["reason"], extra=NOT_FOR_CLIENTS)
                self._say(state=OutputState.RETRYING, retries=retries, error=self._error)
        elif "segments" in said:
            # What there may be in the store, and has to be deleted one day; how it arrives is said besides.
            self._say(segments=max(self._output.segments, said["segments"]))
        else:
            self._was_live = True
            self._error = None
            self._say(state=OutputState.LIVE, error=None)

    def _say(self, **changes: Any) -> None:
        changed = self._output.model_copy(update=changes)
        if changed != self._output:
            self._output = changed
            self._changes.set()

    async def _tell(self) -> None:
        while True:
            await self._changes.wait()
            await self._tell_once()

    async def _tell_once(self) -> None:
        outage = Outage(f"output {self._output.id}: Redis cannot be told how it is")
        while True:
            self._changes.clear()
            try:
                await asyncio.to_thread(self._dependencies.book.tell, self._output)
                outage.recovered()
                return
            except redis.RedisError as error:
                await asyncio.sleep(outage.failed(error))


def stream_arguments(url: StreamUrl, address: str) -> list[str]:
    """What ffmpeg needs to send to a URL at the address that was checked.

    Over TLS it looks the name up again, and the certificate says who is there: ffmpeg has no other way to
    send the name along.
    """
    if url.scheme == "srt":
        # Not in the URL, whose options libsrt takes as they stand there, percent signs and all.
        told = ["-connect_timeout", "5000"]
        for name, value in url.options:
            # ffmpeg counts the latency in microseconds, whoever writes such a URL in milliseconds.
            told += [_SRT_OPTIONS[name], f"{value}000" if name == "latency" else value]
        return [*told, "-f", "mpegts", f"srt://{in_url(address)}:{url.port}"]
    told = ["-rtmp_app", url.app, "-rtmp_playpath", url.key, "-rtmp_live", "live"]
    told += ["-rtmp_tcurl", f"{url.scheme}://{url.authority}/{url.app}", "-rw_timeout", str(RW_TIMEOUT_US)]
    host = in_url(address)
    if url.scheme == "rtmps":
        host = in_url(url.host)
        authorities = ssl.get_default_verify_paths()
        told += ["-tls_verify", "1", "-ca_file", os.environ.get("SSL_CERT_FILE") or authorities.cafile or ""]
    login = ":".join(url.login) + "@" if url.login else ""
    where = f"{url.scheme}://{login}{host}:{url.port}"
    return [*told, "-flvflags", "no_duration_filesize", "-f", "flv", where]


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
