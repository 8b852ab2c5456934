"""External programs of a stage: where they are, and how they are started so that they die with us."""

import asyncio
import ctypes
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from recording_farm.browser_bot.errors import ProgramNotFoundError, StageError
from recording_farm.browser_bot.stage.hang_check import greet, silence

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
XORG_PATHS = ("/usr/lib/xorg/Xorg", "/usr/libexec/Xorg")
"""The real server, not /usr/bin/Xorg: that one may be a set-uid wrapper, which refuses people who are not at
the console and drops the parent-death signal."""

XCB_LIBRARY = "libxcb.so.1"

DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
"""With SIGKILL no child can outlive its parent, whatever ended the parent."""

STOP_TIMEOUT = 0.7
"""None of them has anything to save; one that is stopped or hangs must not keep the rest waiting."""

GREET_PERIOD = 1.0
"""A greeting is answered in 0.2 ms, and costs both sides as much (measured, the worst of 1000: 4 ms)."""

GREETS_MISSED = 4


def chromium_path(configured: Path | None = None) -> Path:
    """The browser to use: the configured one, else the system's, else the one Playwright has downloaded.

    Raises ProgramNotFoundError when there is none.
    """
    if configured is not None:
        if not os.access(configured, os.X_OK):
            raise ProgramNotFoundError(f"{configured} (FARM_CHROMIUM)", "chromium")
        return configured
    for name in CHROMIUM_NAMES:
        if found := shutil.which(name):
            return Path(found)
    downloads = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache/ms-playwright"))
    for path in sorted(downloads.glob("chromium-*/chrome-linux*/chrome"), reverse=True):
        return path
    raise ProgramNotFoundError("chromium", "chromium")


def xorg_path() -> Path:
    """The X server's own binary. Raises ProgramNotFoundError when there is none."""
    for candidate in XORG_PATHS:
        if os.access(candidate, os.X_OK):
            return Path(candidate)
    if found := shutil.which("Xorg"):
        return Path(found)
    raise ProgramNotFoundError("Xorg", "xserver-xorg-core xserver-xorg-video-dummy")


def xcb_library() -> Path:
    """The library that `xcffib` uses displays by. Raises ProgramNotFoundError when it is missing."""
    try:
        ctypes.CDLL(XCB_LIBRARY)
    except OSError:
        raise ProgramNotFoundError(XCB_LIBRARY, "libxcb1") from None
    return Path(XCB_LIBRARY)


def program_path(name: str, package: str) -> Path:
    """Where a program on PATH is. Raises ProgramNotFoundError when it is not."""
    if found := shutil.which(name):
        return Path(found)
    raise ProgramNotFoundError(name, package)


class Program:
    """A running child that keeps its words in a log file and is killed when its parent dies."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        """Wrap a process that `start_program` has started."""
        self.name = name
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        """The process id, which is its process group's id too."""
        return self.process.pid

    def last_words(self, lines: int = 10) -> str:
        """The end of its log, for error messages; Xorg puts six lines of advice after the reason."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        said = [line.strip() for line in text.splitlines() if line.strip() not in {"", "(EE)"}]
        return "\n".join(said[-lines:])

    async def died(self) -> StageError:
        """Wait until the program ends by itself and return the error that tells of it."""
        code = await self.process.wait()
        return StageError(f"{self.name} ended with {code}: {self.last_words() or 'without a word'}")

    async def hung(self, socket: Path, greeting: bytes) -> StageError:
        """Wait until it leaves a `greeting` at its `socket` unanswered for 4 s and return the error of it."""
        await silence(lambda: greet(socket, greeting), GREET_PERIOD, GREETS_MISSED)
        return StageError(f"{self.name} has hung for {GREET_PERIOD * GREETS_MISSED:.0f} s")

    async def stop(self, grace: float = STOP_TIMEOUT) -> None:
        """End the program's whole group: SIGTERM, then SIGKILL after `grace` seconds."""
        try:
            if self.process.returncode is None:
                signal_group(self.pid, signal.SIGTERM)
                async with asyncio.timeout(grace):
                    await self.process.wait()
        except TimeoutError:
            pass
        finally:
            # Also when whoever waits here is cancelled.
            signal_group(self.pid, signal.SIGKILL)
        await self.process.wait()


def signal_group(group: int, sign: signal.Signals) -> None:
    """Send `sign` to a process group, if there is one."""
    with suppress(ProcessLookupError):
        os.killpg(group, sign)


async def start_program(
    name: str,
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
) -> Program:
    """Start `argv` in a process group of its own, with its output in `log`.

    The child gets `env` and nothing else of this process's environment.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *DIES_WITH_PARENT,
            *(str(word) for word in argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env),
            pass_fds=tuple(pass_fds),
            process_group=0,
        )
    return Program(name, process, log)
