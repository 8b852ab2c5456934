"""External programs of a stage: finds them, starts them and kills them when this process dies."""

import asyncio
import ctypes
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from recording_farm.browser_bot.errors import ProgramNotFoundError, StageError
from recording_farm.browser_bot.stage.hang_check import probe_socket, wait_until_hung

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
XORG_PATHS = ("/usr/lib/xorg/Xorg", "/usr/libexec/Xorg")
"""The server itself, not /usr/bin/Xorg, which may be a set-uid wrapper: it rejects users who are not at the
console and clears the parent-death signal."""

XCB_LIBRARY = "libxcb.so.1"

CHILD_VARIABLES = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "FONTCONFIG_FILE", "FONTCONFIG_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"),
)
"""The variables of this process that a child may inherit. Settings of the farm may contain secrets."""

DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
"""With SIGKILL no child can outlive its parent, however the parent ended."""

STOP_TIMEOUT = 0.7
"""The programs have nothing to save, so one that is stopped or hangs must not delay the others."""

PROBE_PERIOD = 1.0
"""A probe takes 0.2 ms, and as much CPU on both sides (measured; the worst of 1000 took 4 ms)."""

PROBES_MISSED = 4


def chromium_path(configured: Path | None = None) -> Path:
    """Return the browser to use: the configured one, the system's, or the one that Playwright downloaded.

    Raises ProgramNotFoundError if there is none.
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
    """Return the X server's binary. Raises ProgramNotFoundError if there is none."""
    for candidate in XORG_PATHS:
        if os.access(candidate, os.X_OK):
            return Path(candidate)
    if found := shutil.which("Xorg"):
        return Path(found)
    raise ProgramNotFoundError("Xorg", "xserver-xorg-core xserver-xorg-video-dummy")


def xcb_library() -> Path:
    """Return the library that `xcffib` loads. Raises ProgramNotFoundError if it is missing."""
    try:
        ctypes.CDLL(XCB_LIBRARY)
    except OSError:
        raise ProgramNotFoundError(XCB_LIBRARY, "libxcb1") from None
    return Path(XCB_LIBRARY)


def program_path(name: str, package: str) -> Path:
    """Find a program on PATH. Raises ProgramNotFoundError if it is not there."""
    if found := shutil.which(name):
        return Path(found)
    raise ProgramNotFoundError(name, package)


class Program:
    """A running child process that logs to a file and is killed when its parent dies."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        """Wrap a process started by `start_program`."""
        self.name = name
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its process group."""
        return self.process.pid

    def log_tail(self, lines: int = 10) -> str:
        """Return the end of its log, for error messages. Xorg prints six lines of advice after the reason."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        text = text.replace(f"{self.log.parent}/", "")  # the end of a log is for clients too
        printed = [line.strip() for line in text.splitlines() if line.strip() not in {"", "(EE)"}]
        return "\n".join(printed[-lines:])

    async def died(self) -> StageError:
        """Wait until the program ends by itself, and return the error."""
        code = await self.process.wait()
        return StageError(f"{self.name} ended with {code}: {self.log_tail() or 'no output'}")

    async def hung(self, socket: Path, request: bytes) -> StageError:
        """Wait until it does not answer a `request` at its `socket` for 4 s, and return the error."""
        await wait_until_hung(lambda: probe_socket(socket, request), PROBE_PERIOD, PROBES_MISSED)
        return StageError(f"{self.name} has hung for {PROBE_PERIOD * PROBES_MISSED:.0f} s")

    async def stop(self, grace: float = STOP_TIMEOUT) -> None:
        """End its process group: SIGTERM, then SIGKILL after `grace` seconds."""
        try:
            if self.process.returncode is None:
                signal_group(self.pid, signal.SIGTERM)
                async with asyncio.timeout(grace):
                    await self.process.wait()
        except TimeoutError:
            pass
        finally:
            # Also when the caller is cancelled.
            signal_group(self.pid, signal.SIGKILL)
        await self.process.wait()


def child_environment() -> dict[str, str]:
    """The environment of a child program: what it needs of ours, and no secret of the farm."""
    inherited = {name: os.environ[name] for name in CHILD_VARIABLES if name in os.environ}
    return {"PATH": os.defpath, **inherited}


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group if it exists."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)


async def start_program(
    name: str,
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
) -> Program:
    """Start `argv` in a process group of its own and append its output to `log`.

    The child does not inherit this process's environment; it gets only `env`.
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
