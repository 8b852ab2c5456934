"""The stage's browser: a real Chromium in kiosk mode whose window is the recorded region."""

import asyncio
import logging
import os
import shlex
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
from recording_farm.browser_bot.stage.devices import write_devices
from recording_farm.browser_bot.stage.environment import DEFAULT_ENVIRONMENT, Environment
from recording_farm.browser_bot.stage.fonts import write_fonts
from recording_farm.browser_bot.stage.popups import keep_to_one_page
from recording_farm.browser_bot.stage.profile import write_profile, write_shims
from recording_farm.browser_bot.stage.programs import DIES_WITH_PARENT, chromium_path, signal_group

logger = logging.getLogger(__name__)

START_TIMEOUT = 15.0
DRIVER_GRACE = 1.0
"""What waits for Playwright's driver waits a little longer than the driver itself; it may hang as well."""

MIN_WINDOW = (500, 100)
"""Chromium makes no window smaller than this (500x87 in version 156); the next round number, to be sure."""

ANSWER_TIMEOUT = 3.0
"""An idle browser answers in some ms; a busy machine must not cost one that is well."""

CLOSE_TIMEOUT = 1.0
"""Closing takes 0.2 to 0.6 s (measured); of a browser that takes longer nothing is worth waiting for."""

PID_FILE = "chromium.pid"
NSS_DATABASE = ".pki/nssdb"
"""Where Chromium looks for authorities besides its own, in its home directory."""

MIN_SHARED_MEMORY = 1 << 30
"""Chromium keeps pictures for its compositor in shared memory; with less than this in /dev/shm it crashes."""

# Playwright's own defaults that a recording must not have: muted sound, and the marks of automation in the
# window. `navigator.webdriver` stays true without --enable-automation, which the recording SDKs need.
UNWANTED_DEFAULTS = [
    "--mute-audio",
    "--enable-automation",
    "--hide-scrollbars",
    # A window that the page opens would stand over it in the recording.
    "--disable-popup-blocking",
]

# Pages of Chromium's own for the suggestions of an address bar that a kiosk does not have. Drawn at each
# start, they take 1.1 s of processor and 57 MB of a stage's 560 MB (measured with Chromium 156).
UNWANTED_FEATURES = (
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    # What preferences cannot say: what these ask the person, nobody answers.
    "FedCm",
    "Translate",
    "WebPayments",
    "WebIdentityDigitalCredentials",
    "WebIdentityDigitalCredentialsCreation",
    "PrivacySandboxSettings4",
)

# Interfaces that a page finds missing; it then does without, as in browsers that never had them. To deny
# prompts does not keep their pickers from standing over the page.
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
    """Warn that Chromium has no sandbox; once in a process, and not in its forks."""
    if os.geteuid() == 0:
        logger.warning("running as root: Chromium's sandbox is off; run the farm as an ordinary user")


def chromium_switches(width: int, height: int) -> list[str]:
    """The switches for a window that is the page, at exactly `width` x `height`, that plays by itself."""
    return [
        "--kiosk",
        f"--window-size={width},{height}",
        "--window-position=0,0",
        "--autoplay-policy=no-user-gesture-required",
        "--deny-permission-prompts",
        f"--disable-blink-features={','.join(UNWANTED_INTERFACES)}",
        # Its window is never shown, and the video would be missing in the page.
        "--blink-settings=pictureInPictureEnabled=false",
        # A machine without a network route can still record a meeting that runs on the machine itself.
        "--allow-loopback-in-peer-connection",
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
    """Which of Playwright's default switches are left out on this machine."""
    shared = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0  # noqa: S108
    if shared >= MIN_SHARED_MEMORY:
        return [*UNWANTED_DEFAULTS, "--disable-dev-shm-usage"]
    return UNWANTED_DEFAULTS


# It starts in the stage's directory, where the files of its devices are.
LAUNCHER = """\
#!/bin/sh
cd {directory} || exit 1
echo $$ $PPID > {pid_file}
# Chromium heeds the last switch of a name alone, and Playwright gives this one already.
for word do
  case $word in --disable-features=*) word=$word,{features} ;; esac
  set -- "$@" "$word"
  shift
done
exec {command} "$@"
"""


def write_launcher(directory: Path, chromium: Path) -> Path:
    """A script that starts Chromium so that it dies with Playwright's driver, which dies with us."""
    launcher = directory / "chromium"
    launcher.write_text(
        LAUNCHER.format(
            directory=shlex.quote(str(directory)),
            pid_file=shlex.quote(str(directory / PID_FILE)),
            features=",".join(UNWANTED_FEATURES),
            command=shlex.join([*DIES_WITH_PARENT, str(chromium)]),
        )
    )
    launcher.chmod(0o700)
    return launcher


@dataclass(frozen=True)
class Browser:
    """A running browser: its one page, which fills the recorded region.

    `gone` is set when Chromium has ended; of a death of its driver Playwright says nothing. `pid` is
    Chromium's, which leads the process group of all its processes.
    """

    context: BrowserContext
    page: Page
    gone: asyncio.Event
    pid: int
    driver_pid: int

    async def answers(self) -> bool:
        """Whether the browser and its page answer, and do not hang. Ask before the page is opened."""
        return await _in_time(self.page.evaluate("0"))

    async def hangs(self) -> bool:
        """Whether the browser does not answer, whatever its page does."""
        return not await _in_time(self.ask())

    async def ask(self) -> None:
        """Ask the browser itself for a sign of life. Raises PlaywrightError when it is gone."""
        await self.context.cookies("http://localhost")


async def _in_time(answer: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await answer
    except (PlaywrightError, TimeoutError):
        return False
    return True


@contextmanager
def _watched(pid: int) -> Iterator[asyncio.Event]:
    """An event that is set when the process has ended, whoever's child it is."""
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
"""What Playwright does is no gesture of the user, see there."""


def _load_no_gesture() -> None:
    """Have drivers that are started from now on load it: Playwright's have our environment."""
    quoted = str(NO_GESTURE).replace("\\", "\\\\").replace('"', '\\"')
    option = f'--require="{quoted}"'
    options = os.environ.get("NODE_OPTIONS", "")
    if option not in options:
        os.environ["NODE_OPTIONS"] = f"{options} {option}".strip()


@asynccontextmanager
async def open_driver() -> AsyncIterator[Playwright]:
    """Run Playwright's driver. Raises StageError when it does not come up."""
    _load_no_gesture()
    manager = async_playwright()
    # Playwright forgets a driver whose start is cancelled, but leaves it running: let it come up, and end it.
    starting = asyncio.ensure_future(manager.__aenter__())
    try:
        yield await asyncio.shield(starting)
    except PlaywrightError as error:
        if not starting.done() or starting.exception() is not error:
            raise
        raise StageError(f"Playwright did not start: {error.message}") from error
    finally:
        await asyncio.wait((starting,))
        # Retrieved, so that a Ctrl-C at the terminal, which kills the driver too, logs no stack trace.
        starting.cancelled() or starting.exception()
        await manager.__aexit__()


class Driver:
    """Playwright's driver; whoever has it closes it.

    Its start takes longer than that of display and sound together (measured: 0.5 to 1 s, they 0.1 to 0.25 s),
    so one that runs is worth handing on.
    """

    def __init__(self) -> None:
        """Begin with none running."""
        self._playwright: Playwright | None = None
        self._running = AsyncExitStack()

    async def start(self) -> Playwright:
        """Run it, unless it runs already. Raises StageError when it does not come up."""
        if self._playwright is None:
            self._playwright = await self._running.enter_async_context(open_driver())
        return self._playwright

    @property
    def runs(self) -> bool:
        """Whether this has one running, and has not handed it on."""
        return self._playwright is not None

    def transfer(self) -> "Driver":
        """The same driver for somebody else; this one has none running then."""
        other = Driver()
        other._playwright, self._playwright = self._playwright, None
        other._running = self._running.pop_all()
        return other

    async def close(self) -> None:
        """End it, if it runs."""
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
    proxy: str | None = None,
    environment: Environment = DEFAULT_ENVIRONMENT,
    authorities: Path | None = None,
) -> AsyncIterator[Browser]:
    """Run a Chromium with a fresh profile in `directory` on the display and sound of `variables`.

    `proxy` is the address of a proxy that everything goes through, loopback included, `authorities` an NSS
    database with certificate authorities that are trusted besides Chromium's own. Raises StageError when it
    does not come up, ProgramNotFoundError when it is not installed.
    """
    playwright = await driver.start()
    root = os.geteuid() == 0
    warn_if_root()
    switches = chromium_switches(width, height)
    if environment.devices:
        switches += write_devices(directory)
    if authorities is not None:
        shutil.copytree(authorities, directory / NSS_DATABASE)
    profile, shims = directory / "profile", directory / "bin"
    write_profile(profile, environment.preferences, credentials=environment.credentials)
    write_shims(shims)
    try:
        async with asyncio.timeout(START_TIMEOUT + DRIVER_GRACE):
            context = await playwright.chromium.launch_persistent_context(
                profile,
                executable_path=write_launcher(directory, chromium_path(chromium)),
                headless=False,
                args=switches,
                ignore_default_args=ignored_defaults(),
                chromium_sandbox=not root,
                env={
                    "PATH": f"{shims}:{os.environ.get('PATH', os.defpath)}",
                    "HOME": str(directory),
                    # What it makes for itself would outlive one that is killed; here it goes with the stage.
                    "TMPDIR": str(directory),
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
                proxy=ProxySettings(server=proxy) if proxy else None,
            )
    except TimeoutError:
        raise StageError("Chromium did not start: Playwright's driver does not answer") from None
    except PlaywrightError as error:
        raise StageError(f"Chromium did not start: {error.message}") from error
    pid, driver_pid = map(int, (directory / PID_FILE).read_text().split())
    try:
        page = context.pages[0]
        if width < MIN_WINDOW[0] or height < MIN_WINDOW[1]:
            # A smaller page is laid out and drawn in the window's upper left corner.
            await page.set_viewport_size(ViewportSize(width=width, height=height))
        await _told(keep_to_one_page(context, page))
        with _watched(pid) as gone:
            yield Browser(context, page, gone, pid, driver_pid)
    finally:
        await _close(context, pid, driver, driver_pid)


async def _told(telling: Awaitable[None]) -> None:
    """Wait until a browser that has come up is told something. Raises StageError when it does not listen."""
    try:
        async with asyncio.timeout(START_TIMEOUT):
            await telling
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
        logger.debug("the browser was gone before it was closed: %s", error.message)
    except TimeoutError:
        logger.info("the browser did not close in %.0f s and is killed", CLOSE_TIMEOUT)
    finally:
        if not answered and driver.runs:
            # It may be the driver that hangs, and nothing could be heard from it any more in any case. One
            # that was handed on has another browser.
            with suppress(ProcessLookupError):
                os.kill(driver_pid, signal.SIGKILL)
        # Also when it closed: one of its processes that is stopped would stay.
        signal_group(pid, signal.SIGKILL)
