"""The stage's browser: a real Chromium in kiosk mode; its window is the recorded region."""

import asyncio
import logging
import os
import shlex
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from playwright._impl import transport
from playwright._impl._driver import get_driver_env
from playwright.async_api import (
    BrowserContext,
    Page,
    Playwright,
    ProxySettings,
    ViewportSize,
    async_playwright,
)
from playwright.async_api import Error as PlaywrightError

from recording_farm.browser_bot.errors import StageError
from recording_farm.browser_bot.stage import autogroup
from recording_farm.browser_bot.stage.box import NO_LIMITS, StageLimits, box_command, storage_switches
from recording_farm.browser_bot.stage.devices import write_devices
from recording_farm.browser_bot.stage.enter_box import HOME
from recording_farm.browser_bot.stage.environment import DEFAULT_ENVIRONMENT, Environment
from recording_farm.browser_bot.stage.fonts import write_fonts
from recording_farm.browser_bot.stage.network import LOOPBACK_PEERS, StageNetwork
from recording_farm.browser_bot.stage.popups import block_popups
from recording_farm.browser_bot.stage.profile import write_profile, write_shims
from recording_farm.browser_bot.stage.programs import (
    DIES_WITH_PARENT,
    child_environment,
    chromium_path,
    signal_group,
)

logger = logging.getLogger(__name__)

START_TIMEOUT = 15.0
DRIVER_GRACE = 1.0
"""Extra seconds beyond the driver's own time-outs, because the driver may hang as well."""

MIN_WINDOW = (500, 100)
"""Chromium's minimum window size (500x87 in version 156), rounded up."""

ANSWER_TIMEOUT = 3.0
"""An idle browser answers in a few ms; the rest is a margin for a busy machine."""

CLOSE_TIMEOUT = 1.0
"""Closing takes 0.2 to 0.6 s (measured); a browser that takes longer is killed."""

PID_FILE = "chromium.pid"
NSS_DATABASE = ".pki/nssdb"
"""Where Chromium looks for additional certificate authorities, relative to its home directory."""

MIN_SHARED_MEMORY = 1 << 30
"""Chromium's compositor needs shared memory; with less than this in /dev/shm Chromium crashes."""

# Playwright's own defaults that a recording must not have: muted audio, and the marks of automation in the
# window. `navigator.webdriver` stays true without --enable-automation, which the recording SDKs need.
UNWANTED_DEFAULTS = [
    "--mute-audio",
    "--enable-automation",
    "--hide-scrollbars",
    # A window that the page opens would cover it in the recording.
    "--disable-popup-blocking",
]

# The first two render suggestions of an address bar that a kiosk does not have. They take 1.1 s of CPU at
# each start and 57 MB of a stage's 560 MB (measured with Chromium 156).
UNWANTED_FEATURES = (
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    # These would prompt a user, and no preference disables them.
    "FedCm",
    "Translate",
    "WebPayments",
    "WebIdentityDigitalCredentials",
    "WebIdentityDigitalCredentialsCreation",
    "PrivacySandboxSettings4",
)

# Web APIs that are removed; pages fall back as in browsers that never had them. Denying permission prompts
# does not prevent their pickers from covering the page.
UNWANTED_INTERFACES = (
    "GetDisplayMedia",
    "EyeDropperAPI",
    "DocumentPictureInPictureAPI",
    "PaymentRequest",
    "SecurePaymentConfirmation",
    "BackgroundFetch",
)


@cache
def warn_if_root() -> None:
    """Warn once per process (forks included) that Chromium runs without its sandbox."""
    if os.geteuid() == 0:
        logger.warning("running as root: Chromium's sandbox is off; run the farm as an ordinary user")


def chromium_switches(width: int, height: int) -> list[str]:
    """Return the switches for a kiosk window of exactly `width` x `height` in which media autoplay."""
    return [
        "--kiosk",
        f"--window-size={width},{height}",
        "--window-position=0,0",
        "--autoplay-policy=no-user-gesture-required",
        "--deny-permission-prompts",
        f"--disable-blink-features={','.join(UNWANTED_INTERFACES)}",
        # The picture-in-picture window is never shown, so the video would be missing from the page.
        "--blink-settings=pictureInPictureEnabled=false",
        "--disable-component-update",
        "--disable-background-networking",
        "--disable-sync",
        "--no-first-run",
        "--disable-background-timer-throttling",
        "--disable-backgrounding-occluded-windows",
        "--disable-renderer-backgrounding",
        "--disable-gpu",
        "--disable-session-crashed-bubble",
        "--noerrdialogs",
        "--force-device-scale-factor=1",
    ]


def ignored_defaults() -> list[str]:
    """Return Playwright's default switches to omit on this machine."""
    shared = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0  # noqa: S108
    if shared >= MIN_SHARED_MEMORY:
        return [*UNWANTED_DEFAULTS, "--disable-dev-shm-usage"]
    return UNWANTED_DEFAULTS


# Chromium runs in the stage's directory, which contains the files of its fake devices. The driver starts it
# in a session of its own; see `autogroup`.
LAUNCHER = """\
#!/bin/sh
cd {directory} || exit 1
echo $$ $PPID > {pid_file}
read -r pid name state parent group session rest < /proc/$$/stat
[ "$session" = $$ ] && {{ echo {low} > /proc/$$/autogroup; }} 2> /dev/null
# Chromium only uses the last --disable-features and --enable-features, and Playwright already passes them.
for word do
  case $word in
    --disable-features=*) word=$word,{disabled} ;;
    --enable-features=*) word=$word{enabled} ;;
  esac
  set -- "$@" "$word"
  shift
done
exec {command} "$@"
"""


def browser_command(
    directory: Path,
    chromium: Path,
    *,
    entrance: Sequence[str] = (),
    limits: StageLimits = NO_LIMITS,
    group: Path | None = None,
) -> list[str]:
    """Return the words that start Chromium; each program of them becomes the next one and keeps its pid.

    `entrance` is a command that runs the rest in the stage's network. `setpriv` is last, so that Chromium
    dies with Playwright's driver, which dies with us: a process that enters a user namespace loses its
    parent-death signal.
    """
    box = [] if limits == NO_LIMITS else box_command(directory, limits, group)
    return [*box, *entrance, *DIES_WITH_PARENT, str(chromium)]


def write_launcher(directory: Path, command: Sequence[str], features: Sequence[str] = ()) -> Path:
    """Write a script that starts Chromium by `command`, with additional `features`."""
    launcher = directory / "chromium"
    launcher.write_text(
        LAUNCHER.format(
            directory=shlex.quote(str(directory)),
            pid_file=shlex.quote(str(directory / PID_FILE)),
            disabled=",".join(UNWANTED_FEATURES),
            low=autogroup.LOW,
            enabled="".join(f",{feature}" for feature in features),
            command=shlex.join(command),
        )
    )
    launcher.chmod(0o700)
    return launcher


@dataclass(frozen=True)
class Browser:
    """A running browser and its only page, which fills the recorded region.

    `gone` is set when Chromium has ended; Playwright does not report the death of its driver. `pid` is
    Chromium's, and the id of the process group of all its processes.
    """

    context: BrowserContext
    page: Page
    gone: asyncio.Event
    pid: int
    driver_pid: int

    async def is_responsive(self) -> bool:
        """Whether the browser and its blank page answer. Call this before a page is opened."""
        return await _in_time(self.page.evaluate("0"))

    async def is_hung(self) -> bool:
        """Whether the browser process does not answer; a hung page does not count."""
        return not await _in_time(self.ping())

    async def ping(self) -> None:
        """Wait for an answer of the browser process. Raises PlaywrightError if it is gone."""
        await self.context.cookies("http://localhost")


async def _in_time(answer: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await answer
    except (PlaywrightError, TimeoutError):
        return False
    return True


@contextmanager
def _exit_event(pid: int) -> Iterator[asyncio.Event]:
    """Yield an event that is set when a process ends, which need not be a child of this one."""
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        gone.set()
        yield gone
        return

    def ended() -> None:
        loop.remove_reader(descriptor)
        gone.set()

    loop.add_reader(descriptor, ended)
    try:
        yield gone
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


NO_GESTURE = Path(__file__).with_name("no_gesture.cjs")
"""Keeps Playwright's calls from counting as user gestures; see the file."""


def driver_environment() -> dict[str, str]:
    """The environment of Playwright's driver, which talks with the browser of a page. It loads NO_GESTURE."""
    quoted = str(NO_GESTURE).replace("\\", "\\\\").replace('"', '\\"')
    return {
        **{name: value for name, value in get_driver_env().items() if name.startswith("PW_")},
        **child_environment(),
        "NODE_OPTIONS": f'--require="{quoted}"',
    }


# Playwright would pass all of this process's variables, and has no option for it.
transport.get_driver_env = driver_environment  # type: ignore[attr-defined]


@asynccontextmanager
async def open_driver() -> AsyncIterator[Playwright]:
    """Run Playwright's driver. Raises StageError if it does not start."""
    manager = async_playwright()
    # A cancelled start would leave the driver running, so it is left to finish and the driver is ended.
    starting = asyncio.ensure_future(manager.__aenter__())
    try:
        yield await asyncio.shield(starting)
    except PlaywrightError as error:
        if not starting.done() or starting.exception() is not error:
            raise
        raise StageError(f"Playwright did not start: {error.message}") from error
    finally:
        await asyncio.wait((starting,))
        # Retrieve the exception: Ctrl-C at the terminal kills the driver too, and must not log a stack trace.
        starting.cancelled() or starting.exception()
        await manager.__aexit__()


class Driver:
    """Playwright's driver; its owner must close it.

    It starts slower than display and audio together (measured: 0.5 to 1 s against 0.1 to 0.25 s), so a
    running one is worth reusing.
    """

    def __init__(self) -> None:
        """Create a driver that is not running yet."""
        self._playwright: Playwright | None = None
        self._running = AsyncExitStack()

    async def start(self) -> Playwright:
        """Start it unless it is running. Raises StageError if it does not start."""
        if self._playwright is None:
            self._playwright = await self._running.enter_async_context(open_driver())
        return self._playwright

    @property
    def is_running(self) -> bool:
        """Whether it is running and was not transferred."""
        return self._playwright is not None

    def transfer(self) -> "Driver":
        """Move the running driver into a new object; this one is not running afterwards."""
        other = Driver()
        other._playwright, self._playwright = self._playwright, None
        other._running = self._running.pop_all()
        return other

    async def close(self) -> None:
        """End it if it is running."""
        self._playwright = None
        await self._running.aclose()


@asynccontextmanager
async def open_browser(
    driver: Driver,
    directory: Path,
    *,
    width: int,
    height: int,
    variables: Mapping[str, str],
    chromium: Path | None = None,
    network: StageNetwork | None = None,
    environment: Environment = DEFAULT_ENVIRONMENT,
    authorities: Path | None = None,
    limits: StageLimits = NO_LIMITS,
    group: Path | None = None,
) -> AsyncIterator[Browser]:
    """Run Chromium with a fresh profile in `directory` on the display and audio device in `variables`.

    All traffic, loopback included, goes through `network`, if there is one. `authorities` is an NSS database
    of certificate authorities that Chromium trusts besides its own. Everything that it writes is below
    `home`, see `enter_box`; `group` is its control group. Raises StageError if Chromium does not start,
    ProgramNotFoundError if it is not installed.
    """
    playwright = await driver.start()
    root = os.geteuid() == 0
    warn_if_root()
    switches = [*chromium_switches(width, height), *(network.switches if network else [LOOPBACK_PEERS])]
    if environment.devices:
        switches += write_devices(directory)
    storage, features = storage_switches(limits)
    home = directory / HOME
    home.mkdir(mode=0o700)
    if authorities is not None:
        shutil.copytree(authorities, home / NSS_DATABASE)
    profile, shims = home / "profile", directory / "bin"
    write_profile(profile, environment.preferences, credentials=environment.credentials)
    write_shims(shims)
    try:
        async with asyncio.timeout(START_TIMEOUT + DRIVER_GRACE):
            context = await playwright.chromium.launch_persistent_context(
                profile,
                executable_path=write_launcher(
                    directory,
                    browser_command(
                        directory,
                        chromium_path(chromium),
                        entrance=network.entrance if network else (),
                        limits=limits,
                        group=group,
                    ),
                    features,
                ),
                headless=False,
                args=[*switches, *storage],
                ignore_default_args=ignored_defaults(),
                chromium_sandbox=not root,
                env={
                    "PATH": f"{shims}:{os.environ.get('PATH', os.defpath)}",
                    "HOME": str(home),
                    # Temporary files of a killed Chromium are deleted with the stage's directory.
                    "TMPDIR": str(home),
                    "LANG": "C.UTF-8",
                    "DBUS_SESSION_BUS_ADDRESS": "disabled:",
                    **write_fonts(directory),
                    **environment.variables,
                    **variables,
                },
                locale=environment.locale,
                no_viewport=True,
                accept_downloads=False,
                artifacts_dir=directory / "artifacts",
                handle_sigint=False,
                handle_sigterm=False,
                handle_sighup=False,
                timeout=START_TIMEOUT * 1000,
                proxy=ProxySettings(server=network.proxy) if network else None,
            )
    except TimeoutError:
        raise StageError("Chromium did not start: Playwright's driver does not answer") from None
    except PlaywrightError as error:
        raise StageError(f"Chromium did not start: {error.message}") from error
    pid, driver_pid = map(int, (directory / PID_FILE).read_text().split())
    try:
        page = context.pages[0]
        if width < MIN_WINDOW[0] or height < MIN_WINDOW[1]:
            # A smaller page is laid out in the window's upper left corner.
            await page.set_viewport_size(ViewportSize(width=width, height=height))
        await _set_up(block_popups(context, page))
        with _exit_event(pid) as gone:
            yield Browser(context, page, gone, pid, driver_pid)
    finally:
        await _close(context, pid, driver, driver_pid)


async def _set_up(commands: Awaitable[None]) -> None:
    """Wait until a browser that has started accepts `commands`. Raises StageError if it does not."""
    try:
        async with asyncio.timeout(START_TIMEOUT):
            await commands
    except TimeoutError:
        raise StageError("Chromium did not start: it does not answer") from None
    except PlaywrightError as error:
        raise StageError(f"Chromium did not start: {error.message}") from error


async def _close(context: BrowserContext, pid: int, driver: Driver, driver_pid: int) -> None:
    """Close the browser, or kill it."""
    answered = False
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await context.close()
        answered = True
    except PlaywrightError as error:
        answered = True
        logger.debug("the browser ended before it was closed: %s", error.message)
    except TimeoutError:
        logger.info("the browser did not close within %.0f s; killing it", CLOSE_TIMEOUT)
    finally:
        if not answered and driver.is_running:
            # The driver itself may hang. A transferred driver serves another browser and must survive.
            with suppress(ProcessLookupError):
                os.kill(driver_pid, signal.SIGKILL)
        # Also after a clean close: a stopped process of the group would stay.
        signal_group(pid, signal.SIGKILL)
