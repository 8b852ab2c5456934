"""The stage's sound: a PulseAudio daemon of its own with one null sink.

One recording can then neither hear nor break another, and no shared daemon runs out of clients.
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
"""What a client says first (PulseAudio's pulsecore/native-common.h and pstream.c): a packet on no channel
with the command 8, AUTH, as number 0, the protocol's version and a cookie, which this daemon does not look
at."""

AUTHENTICATION = struct.pack(">IIIII", len(_AUTH), 0xFFFFFFFF, 0, 0, 0) + _AUTH

_HELLO = "hello\n"
"""The daemon's command line (pulse-cli-syntax(5)); what pacmd says first makes each answer end in a
prompt."""

_PROMPT = b">>> "
_MAX_ANSWER = 1 << 20
_INPUT = re.compile(r"^    index: (\d+)$(.*?)(?=^    index: |\Z)", re.MULTILINE | re.DOTALL)
_STATE = re.compile(r"^\tstate: (\w+)$", re.MULTILINE)
_SINK = re.compile(r"^\tsink: \d+ <(.*)>$", re.MULTILINE)
_DRIVER = re.compile(r"^\tdriver: <(.*)>$", re.MULTILINE)
_WAY = "module-remap-sink.c"
"""The way from a further output to the sink is listed as something that plays, too."""


@dataclass(frozen=True)
class SinkInput:
    """Something that plays: its number at the daemon, the sink it plays to, and whether it does just now."""

    number: int
    sink: str
    runs: bool


def parse_sink_inputs(listing: str, outputs: Collection[str] = ()) -> list[SinkInput]:
    """What the daemon lists at `list-sink-inputs`; what plays to one of the `outputs` plays to our sink."""
    inputs = []
    for entry in _INPUT.finditer(listing):
        state, sink, driver = (part.search(entry[2]) for part in (_STATE, _SINK, _DRIVER))
        if state and sink and driver and driver[1] != _WAY:
            name = SINK if sink[1] in outputs else sink[1]
            inputs.append(SinkInput(int(entry[1]), name, state[1] == "RUNNING"))
    return inputs


@dataclass(frozen=True)
class Sound:
    """A running sound device: the server to play to and the source from which to record what it plays."""

    server: str
    source: str
    daemon: Program
    commands: Path
    outputs: Collection[str] = ()

    @property
    def variables(self) -> dict[str, str]:
        """What a client of this device needs in its environment."""
        return {"PULSE_SERVER": self.server, "PULSE_SINK": SINK}

    async def hung(self) -> StageError:
        """Wait until the daemon hangs, or is stopped, and return the error that tells of it."""
        return await self.daemon.hung(Path(self.server.removeprefix("unix:")), AUTHENTICATION)

    async def inputs(self) -> list[SinkInput]:
        """What plays, or could. Raises OSError when the daemon is gone; put a time-out around it."""
        return parse_sink_inputs(await self._command("list-sink-inputs"), self.outputs)

    async def move_back(self) -> None:
        """Have everything play to the sink that is recorded. Raises OSError as `inputs` does."""
        for playing in await self.inputs():
            if playing.sink != SINK:
                await self._command(f"move-sink-input {playing.number} {SINK}")

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


def _leads_to_sink(name: str) -> str:
    return f"module-remap-sink sink_name={name} master={SINK} channels=2 remix=no"


def daemon_configuration() -> str:
    """A daemon.conf. Chromium plays at the daemon's default rate, whatever the sink's is."""
    return (
        f"default-sample-rate = {SAMPLE_RATE}\nalternate-sample-rate = {SAMPLE_RATE}\n"
        "default-sample-format = s16le\ndefault-sample-channels = 2\n"
    )


@asynccontextmanager
async def open_sound(directory: Path, outputs: Collection[str] = ()) -> AsyncIterator[Sound]:
    """Run a PulseAudio daemon whose files lie in `directory`, which only this user may enter.

    `outputs` are names of further sinks that lead to the one that is recorded. Raises StageError when it
    does not come up, ProgramNotFoundError when it is not installed.
    """
    clients, commands = directory / "pulse.sock", directory / "commands.sock"
    configuration = directory / "pulse-daemon.conf"
    configuration.write_text(daemon_configuration())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notifications:
        try:
            notifications.bind(str(directory / "notify"))
        except OSError as error:
            raise StageError(f"PulseAudio cannot have its sockets in {directory}: {error}") from error
        daemon = await start_program(
            "PulseAudio",
            [
                program_path("pulseaudio", "pulseaudio"),
                "-n", "--daemonize=no", "--use-pid-file=no", "--disallow-exit", "--exit-idle-time=-1",
                "--realtime=no", "--high-priority=no", "--no-cpu-limit",
                # norewinds: the sink works in small pieces; else it buffers 2 s, and a page's first sound
                # is late by as much.
                "-L", f"module-null-sink sink_name={SINK} rate={SAMPLE_RATE} channels=2 format=s16le "
                "norewinds=1",
                *(word for name in outputs for word in ("-L", _leads_to_sink(name))),
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
            yield Sound(f"unix:{clients}", f"{SINK}.monitor", daemon, commands, outputs)
        finally:
            await daemon.stop()


async def _ready(notifications: socket.socket, daemon: Program) -> None:
    """Wait for the daemon's `READY=1` (the protocol of sd_notify)."""

    async def told() -> None:
        while b"READY=1" not in await asyncio.get_running_loop().sock_recv(notifications, 256):
            pass

    died = asyncio.ensure_future(daemon.died())
    try:
        async with asyncio.timeout(START_TIMEOUT):
            happened = await first_of(died=died, ready=told())
    except TimeoutError:
        words = daemon.last_words()
        raise StageError(f"PulseAudio was not ready after {START_TIMEOUT:.0f} s: {words}") from None
    if happened == "died":
        raise died.result()
