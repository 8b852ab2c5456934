"""Supervises the live outputs of a running recording: one program for each, restarted when it exits.

The record has the requested outputs and their states. It is read again on notification, and every few seconds
in case a notification was lost.
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

from recording_farm.browser_bot.network.addresses import AddressError, AddressRule, resolve_host
from recording_farm.browser_bot.network.dns import unresolved_message
from recording_farm.browser_bot.network.host_names import in_url
from recording_farm.farm.db.faults import Outage
from recording_farm.farm.errors import FarmError
from recording_farm.farm.live.hls import HlsSpec
from recording_farm.farm.live.program import OutputProgram
from recording_farm.farm.live.stream import Receiver, StreamSpec
from recording_farm.farm.recording.outputs import OVER, Output, OutputKind, OutputState, StreamUrl
from recording_farm.farm.telemetry.recording_log import NOT_FOR_CLIENTS

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
END_SECONDS: Final = 5.0
"""Time to flush the end of a stream to its receiver."""

HLS_END_SECONDS: Final = 60.0
"""Time to upload the end of HLS."""

PAUSES: Final = 1.0, 2.0, 4.0, 8.0, 15.0
"""Seconds between attempts; the last one repeats. An output that was live starts from the first."""

RW_TIMEOUT_US: Final = 10_000_000
"""Time-out of one write to a receiver."""

_SRT_OPTIONS: Final = {
    "streamid": "srt_streamid",
    "passphrase": "passphrase",
    "pbkeylen": "pbkeylen",
    "latency": "latency",
    "pkt_size": "pkt_size",
}
"""ffmpeg's names of the options of an SRT URL."""

_MAX_ERROR: Final = 300
_SAVE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Takes:
    """A recording's takes, for programs that follow them: their directory and format."""

    directory: Path
    fps: int
    audio_only: bool


class OutputBook(Protocol):
    """Access to the outputs in the record. Blocking; raises redis.RedisError or OSError on an outage."""

    def wanted(self) -> list[Output]:
        """The recording's outputs in the record."""

    def save(self, output: Output) -> None:
        """Save the state of an output, unless it was removed meanwhile."""

    def url(self, output: Output) -> StreamUrl:
        """The URL of an RTMP or SRT output, with its secrets. Raises FarmError when it is not available."""


@dataclass(frozen=True)
class OutputDependencies:
    """What live outputs need: the takes, their records, the address rule, and the HLS to make.

    `rule` limits the addresses of receivers. `hls_spec` returns the spec of HLS in a directory.
    """

    takes: Takes
    book: OutputBook
    rule: AddressRule
    hls_spec: Callable[[Path], HlsSpec]


class LiveOutputs:
    """Runs a recording's outputs. Call `run` once, and `end` when the last take is closed."""

    def __init__(self, dependencies: OutputDependencies, directory: Path) -> None:
        """`directory` is the programs' working directory."""
        self._dependencies = dependencies
        self._directory = directory
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._supervisors: dict[UUID, _OutputSupervisor] = {}
        self._outage = Outage("the live outputs cannot be read")

    def reload(self) -> None:
        """Read the record again: it has changed."""
        self._changed.set()

    def end(self) -> None:
        """The recording has ended: make the programs finish."""
        self._ending.set()
        self._changed.set()

    async def run(self) -> None:
        """Run the outputs until `end`, then wait until all have finished."""
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
            logger.warning("the live outputs cannot be read: %s", error)
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
        """Make it finish, with this final state."""
        if not self._ending.is_set():
            self._end_state = state
            self._ending.set()
        if self._program is not None:
            self._program.end()

    async def run(self) -> None:
        saving = asyncio.create_task(self._save_changes())
        try:
            code = await self._run_until_it_ends()
        except Exception:
            # A bug here must not end the recording.
            logger.exception("output %s", self._output.id)
            code = 1
        self._update(state=self._end_state if code == 0 or self._is_stream else OutputState.FAILED)
        saving.cancel()
        await asyncio.gather(saving, return_exceptions=True)
        try:
            async with asyncio.timeout(_SAVE_SECONDS):
                await self._save()
        except TimeoutError:
            logger.warning("output %s: its final state could not be saved", self._output.id)

    @property
    def _is_stream(self) -> bool:
        return self._output.kind is not OutputKind.HLS

    async def _run_until_it_ends(self) -> int:
        """Run and restart the program until `end`; returns the exit code of its last run."""
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
            logger.warning("output %s is retried in %.0f s: %s", self._output.id, pause, why)
            error = self._error or "the program that sends it has failed; the node's log says why"
            self._update(state=OutputState.RETRYING, retries=retries, error=error)
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
            spec = await asyncio.to_thread(self._dependencies.hls_spec, self._directory)
            return OutputProgram(
                "recording_farm.farm.live.hls", spec, log, self._heard, environment=os.environ
            )
        url = await asyncio.to_thread(self._dependencies.book.url, self._output)
        destination = await resolve_host(url.host, url.port, self._dependencies.rule)
        if not destination.addresses:
            raise AddressError(unresolved_message(url.host))
        # Rotate through the addresses of the host: one of them may be dead.
        address = destination.addresses[self._tries % len(destination.addresses)]
        self._tries += 1
        stream = StreamSpec(
            spool=str(self._dependencies.takes.directory),
            fps=self._dependencies.takes.fps,
            audio_only=self._dependencies.takes.audio_only,
            receiver=receiver_of(url, str(address)),
            # Nor the address: it may be inside the operator's network.
            secrets=[*url.secrets, *([] if str(address) == url.host else [str(address)])],
        )
        return OutputProgram("recording_farm.farm.live.stream", stream, log, self._heard)

    def _heard(self, said: Any) -> None:
        if "error" in said:
            self._error = str(said["error"])[:_MAX_ERROR]
            if self._output.kind is OutputKind.HLS:
                # The program retries by itself.
                retries = self._output.retries + bool(said.get("failed"))
                if "reason" in said:
                    logger.warning("output %s: %s", self._output.id, said["reason"], extra=NOT_FOR_CLIENTS)
                self._update(state=OutputState.RETRYING, retries=retries, error=self._error)
        elif "segments" in said:
            # Segments that may be in the store and must expire there; the upload reports its own state.
            self._update(segments=max(self._output.segments, said["segments"]))
        else:
            self._was_live = True
            self._error = None
            self._update(state=OutputState.LIVE, error=None)

    def _update(self, **changes: Any) -> None:
        changed = self._output.model_copy(update=changes)
        if changed != self._output:
            self._output = changed
            self._changes.set()

    async def _save_changes(self) -> None:
        while True:
            await self._changes.wait()
            await self._save()

    async def _save(self) -> None:
        outage = Outage(f"output {self._output.id}: its state cannot be saved")
        while True:
            self._changes.clear()
            try:
                await asyncio.to_thread(self._dependencies.book.save, self._output)
                outage.recovered()
                return
            except redis.RedisError as error:
                await asyncio.sleep(outage.failed(error))


def receiver_of(url: StreamUrl, address: str) -> Receiver:
    """How ffmpeg sends to a URL at the checked address.

    With TLS, ffmpeg resolves the host again, because it has no other way to set the server name; there the
    certificate authenticates the server.
    """
    if url.scheme == "srt":
        # Not in the URL: libsrt does not percent-decode its options.
        options = {"connect_timeout": "5000"}
        for name, value in url.options:
            # ffmpeg's latency is in microseconds, that of SRT URLs in milliseconds.
            options[_SRT_OPTIONS[name]] = f"{value}000" if name == "latency" else value
        return Receiver(f"srt://{in_url(address)}:{url.port}", "mpegts", options)
    options = {
        "rtmp_app": url.app,
        "rtmp_playpath": url.key,
        "rtmp_live": "live",
        "rtmp_tcurl": f"{url.scheme}://{url.authority}/{url.app}",
        "rw_timeout": str(RW_TIMEOUT_US),
    }
    host = in_url(address)
    if url.scheme == "rtmps":
        host = in_url(url.host)
        authorities = ssl.get_default_verify_paths()
        options["tls_verify"] = "1"
        options["ca_file"] = os.environ.get("SSL_CERT_FILE") or authorities.cafile or ""
    return Receiver(f"{url.scheme}://{host}:{url.port}", "flv", options, ":".join(url.login or ()))


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
