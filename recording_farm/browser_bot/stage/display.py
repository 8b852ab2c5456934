"""The stage's display: its own Xorg server, whose refresh rate is the recording's frame rate."""

import asyncio
import os
import secrets
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from recording_farm.browser_bot.errors import StageError
from recording_farm.browser_bot.stage.programs import Program, start_program, xorg_path

START_TIMEOUT = 10.0
SOCKETS = Path("/tmp/.X11-unix")  # noqa: S108 - X's fixed directory (X(7))
COOKIE_SCHEME = b"MIT-MAGIC-COOKIE-1"
COOKIE_BYTES = 16
MARGIN = 16
"""Without a window manager Chromium makes a window that fills the screen one pixel smaller. On a larger
screen a kiosk window gets exactly the requested size."""

MIN_PIXEL_CLOCK_KHZ = 12_000
"""The dummy driver refuses modes below 11 MHz."""

MIN_SCREEN = (640, 480)


@dataclass(frozen=True)
class Mode:
    """An X mode; sizes are in pixels or lines."""

    width: int
    height: int
    total_width: int
    total_height: int
    fps: int

    @property
    def pixel_clock_khz(self) -> int:
        """The pixel clock that gives exactly `fps` refreshes a second."""
        return self.total_width * self.total_height * self.fps // 1000

    def modeline(self) -> str:
        """Return the `Modeline` of xorg.conf."""
        clock = f"{self.pixel_clock_khz // 1000}.{self.pixel_clock_khz % 1000:03d}"
        horizontal = f"{self.width} {self.width + 8} {self.width + 16} {self.total_width}"
        vertical = f"{self.height} {self.height + 1} {self.height + 4} {self.total_height}"
        return f'Modeline "stage" {clock} {horizontal} {vertical}'


def screen_mode(width: int, height: int, fps: int) -> Mode:
    """Return the mode of a screen for recording a region of `width` x `height` at `fps`.

    The totals are rounded up so that the pixel clock is a whole number of kHz, the resolution of xorg.conf.
    With a rounded clock the refresh rate would be 29.94 Hz, which loses a frame every 17 s.
    """
    screen_width = max(width + MARGIN, MIN_SCREEN[0])
    screen_width += screen_width % 8 and 8 - screen_width % 8
    screen_height = max(height + MARGIN, MIN_SCREEN[1])
    total_height = _round_up(screen_height + 8, 125)
    total_width = _round_up(screen_width + 24, 8)
    while total_width * total_height * fps < MIN_PIXEL_CLOCK_KHZ * 1000:
        total_width += 8
    return Mode(screen_width, screen_height, total_width, total_height, fps)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def xorg_configuration(mode: Mode) -> str:
    """Return an xorg.conf with the dummy driver, one mode, no input devices and no screen blanking."""
    return f"""\
Section "ServerFlags"
    Option "AutoAddDevices" "false"
    Option "AutoEnableDevices" "false"
    Option "DontVTSwitch" "true"
    Option "BlankTime" "0"
    Option "StandbyTime" "0"
    Option "SuspendTime" "0"
    Option "OffTime" "0"
EndSection
Section "Device"
    Identifier "stage"
    Driver "dummy"
    VideoRam 65536
EndSection
Section "Monitor"
    Identifier "stage"
    HorizSync 1-5000
    VertRefresh 1-500
    {mode.modeline()}
EndSection
Section "Screen"
    Identifier "stage"
    Device "stage"
    Monitor "stage"
    DefaultDepth 24
    SubSection "Display"
        Depth 24
        Modes "stage"
        Virtual {mode.width} {mode.height}
    EndSubSection
EndSection
"""


def xauthority(cookie: bytes) -> bytes:
    """Return an Xauthority file with `cookie` for every display (family `wild`, X11's Xauth.h).

    The family is followed by address, display number, scheme name and data, each with a 16-bit length.
    """
    fields = (b"", b"", COOKIE_SCHEME, cookie)
    return struct.pack(">H", 0xFFFF) + b"".join(struct.pack(">H", len(f)) + f for f in fields)


def connection_setup(cookie: bytes) -> bytes:
    """Return a client's first message (X11 protocol, "Connection Setup"): byte order, version, cookie."""
    head = struct.pack("<cxHHHHxx", b"l", 11, 0, len(COOKIE_SCHEME), len(cookie))
    return head + b"".join(field + bytes(-len(field) % 4) for field in (COOKIE_SCHEME, cookie))


@dataclass(frozen=True)
class Display:
    """A running display: its name (`:7`), its Xauthority file, its mode and its server."""

    name: str
    authority: Path
    mode: Mode
    server: Program

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables for clients of this display."""
        return {"DISPLAY": self.name, "XAUTHORITY": str(self.authority)}

    @property
    def socket(self) -> Path:
        """The Unix socket to which clients connect."""
        return SOCKETS / f"X{self.name.removeprefix(':')}"

    @property
    def cookie(self) -> bytes:
        """The cookie with which clients authenticate."""
        return self.authority.read_bytes()[-COOKIE_BYTES:]

    async def hung(self) -> StageError:
        """Wait until the server hangs or is stopped, and return the error."""
        return await self.server.hung(self.socket, connection_setup(self.cookie))


@asynccontextmanager
async def open_display(directory: Path, width: int, height: int, fps: int) -> AsyncIterator[Display]:
    """Run an X server for a region of `width` x `height` at `fps`, with its files in `directory`.

    Raises StageError if it does not start, ProgramNotFoundError if it is not installed.
    """
    mode = screen_mode(width, height, fps)
    configuration = directory / "xorg.conf"
    configuration.write_text(xorg_configuration(mode))
    authority = directory / "xauthority"
    authority.touch(mode=0o600)
    authority.write_bytes(xauthority(secrets.token_bytes(COOKIE_BYTES)))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = await start_program(
            "Xorg",
            [
                xorg_path(), "-config", configuration, "-auth", authority, "-displayfd", str(theirs.fileno()),
                "-noreset", "-novtswitch", "-nolisten", "tcp", "-nocursor", "-s", "0", "-dpms",
                "-logfile", directory / "xorg.log",
            ],
            log=directory / "xorg.out",
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory)},
            pass_fds=[theirs.fileno()],
        )  # fmt: skip
        theirs.close()
        try:
            number = await _display_number(ours, server)
            yield Display(f":{number}", authority, mode, server)
        finally:
            await server.stop()


async def _display_number(channel: socket.socket, server: Program) -> int:
    """Read the display number that the server writes when it accepts clients."""
    channel.setblocking(False)
    loop = asyncio.get_running_loop()
    received = b""
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while not received.endswith(b"\n"):
                more = await loop.sock_recv(channel, 16)
                if not more:
                    raise await server.died()
                received += more
    except TimeoutError:
        raise StageError(f"Xorg was not ready after {START_TIMEOUT:.0f} s: {server.log_tail()}") from None
    return int(received)
