"""The stage's audio device: its own PulseAudio daemon with one null sink.

Recordings can neither hear nor break each other, and no shared daemon runs out of clients.
"""

import asyncio
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from recording_farm.browser_bot.errors import StageError
from recording_farm.browser_bot.stage.programs import Program, program_path, start_program
from recording_farm.browser_bot.waiting import first_of

START_TIMEOUT = 10.0
SINK = "stage"
SAMPLE_RATE = 48_000

_AUTH = struct.pack(">cIcIcIcI256x", b"L", 8, b"L", 0, b"L", 32, b"x", 256)
"""A client's first message (PulseAudio's pulsecore/native-common.h and pstream.c): a packet without a channel
that has the command 8, AUTH, the tag 0, the protocol's version and a cookie, which this daemon ignores."""

AUTHENTICATION = struct.pack(">IIIII", len(_AUTH), 0xFFFFFFFF, 0, 0, 0) + _AUTH

_HELLO = "hello\n"
"""pacmd's first line to the daemon's command line (pulse-cli-syntax(5)); after it each answer ends in a
prompt."""

_PROMPT = b">>> "
_MAX_ANSWER = 1 << 20
_INPUT = re.compile(r"^    index: (\d+)$(.*?)(?=^    index: |\Z)", re.MULTILINE | re.DOTALL)
_STATE = re.compile(r"^\tstate: (\w+)$", re.MULTILINE)
_SINK = re.compile(r"^\tsink: \d+ <(.*)>$", re.MULTILINE)
_DRIVER = re.compile(r"^\tdriver: <(.*)>$", re.MULTILINE)
_REMAP_DRIVER = "module-remap-sink.c"
"""The driver of sink inputs that connect an additional output to the recorded sink."""


@dataclass(frozen=True)
class SinkInput:
    """A stream to a sink: its index at the daemon, its sink, and whether it is running."""

    number: int
    sink: str
    runs: bool


def parse_sink_inputs(listing: str, outputs: Collection[str] = ()) -> list[SinkInput]:
    """Parse the daemon's `list-sink-inputs`; streams to one of the `outputs` count as streams to our sink."""
    inputs = []
    for entry in _INPUT.finditer(listing):
        state, sink, driver = (part.search(entry[2]) for part in (_STATE, _SINK, _DRIVER))
        if state and sink and driver and driver[1] != _REMAP_DRIVER:
            name = SINK if sink[1] in outputs else sink[1]
            inputs.append(SinkInput(int(entry[1]), name, state[1] == "RUNNING"))
    return inputs


@dataclass(frozen=True)
class AudioDevice:
    """A running audio device: the server to play to and the source to record from."""

    server: str
    source: str
    daemon: Program
    commands: Path
    outputs: Collection[str] = ()

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables for clients of this device."""
        return {"PULSE_SERVER": self.server, "PULSE_SINK": SINK}

    async def hung(self) -> StageError:
        """Wait until the daemon hangs or is stopped, and return the error."""
        return await self.daemon.hung(Path(self.server.removeprefix("unix:")), AUTHENTICATION)

    async def inputs(self) -> list[SinkInput]:
        """Return all sink inputs. Raises OSError if the daemon is gone. Needs a time-out from the caller."""
        return parse_sink_inputs(await self._command("list-sink-inputs"), self.outputs)

    async def move_back(self) -> None:
        """Move all sink inputs to the recorded sink. Raises OSError like `inputs`."""
        for each in await self.inputs():
            if each.sink != SINK:
                await self._command(f"move-sink-input {each.number} {SINK}")

    async def _command(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(self.commands, limit=_MAX_ANSWER)
        try:
            writer.write(f"{_HELLO}{command}\n".encode())
            await reader.readuntil(_PROMPT)
            return (await reader.readuntil(_PROMPT)).decode(errors="replace")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionError(f"PulseAudio did not answer: {error}") from error
        finally:
            writer.close()


def _remap_module(name: str) -> str:
    return f"module-remap-sink sink_name={name} master={SINK} channels=2 remix=no"


def daemon_configuration() -> str:
    """Return a daemon.conf. Chromium plays at the daemon's default rate, not at the sink's."""
    return (
        f"default-sample-rate = {SAMPLE_RATE}\nalternate-sample-rate = {SAMPLE_RATE}\n"
        "default-sample-format = s16le\ndefault-sample-channels = 2\n"
    )


@asynccontextmanager
async def open_audio(directory: Path, outputs: Collection[str] = ()) -> AsyncIterator[AudioDevice]:
    """Run a PulseAudio daemon with its files in `directory`, which must be private to this user.

    `outputs` are names of additional sinks that are connected to the recorded one. Raises StageError if it
    does not start, ProgramNotFoundError if it is not installed.
    """
    clients, commands = directory / "pulse.sock", directory / "commands.sock"
    configuration = directory / "pulse-daemon.conf"
    configuration.write_text(daemon_configuration())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notifications:
        try:
            notifications.bind(str(directory / "notify"))
        except OSError as error:
            raise StageError(f"PulseAudio cannot create its sockets: {error.strerror or error}") from error
        daemon = await start_program(
            "PulseAudio",
            [
                program_path("pulseaudio", "pulseaudio"),
                "-n", "--daemonize=no", "--use-pid-file=no", "--disallow-exit", "--exit-idle-time=-1",
                "--realtime=no", "--high-priority=no", "--no-cpu-limit",
                # norewinds: the sink uses small blocks; otherwise it buffers 2 s, which delays a page's first
                # audio.
                "-L", f"module-null-sink sink_name={SINK} rate={SAMPLE_RATE} channels=2 format=s16le "
                "norewinds=1",
                *(word for name in outputs for word in ("-L", _remap_module(name))),
                "-L", f"module-native-protocol-unix socket={clients} auth-anonymous=1 auth-cookie-enabled=0",
                "-L", f"module-cli-protocol-unix socket={commands}",
            ],
            log=directory / "pulseaudio.log",
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(directory),
                "XDG_RUNTIME_DIR": str(directory),
                "PULSE_CONFIG": str(configuration),
                "NOTIFY_SOCKET": str(directory / "notify"),
            },
        )  # fmt: skip
        try:
            await _ready(notifications, daemon)
            yield AudioDevice(f"unix:{clients}", f"{SINK}.monitor", daemon, commands, outputs)
        finally:
            await daemon.stop()


async def _ready(notifications: socket.socket, daemon: Program) -> None:
    """Wait for the daemon's `READY=1` (sd_notify(3))."""

    async def notified() -> None:
        while b"READY=1" not in await asyncio.get_running_loop().sock_recv(notifications, 256):
            pass

    died = asyncio.ensure_future(daemon.died())
    try:
        async with asyncio.timeout(START_TIMEOUT):
            happened = await first_of(died=died, ready=notified())
    except TimeoutError:
        log = daemon.log_tail()
        raise StageError(f"PulseAudio was not ready after {START_TIMEOUT:.0f} s: {log}") from None
    if happened == "died":
        raise died.result()
