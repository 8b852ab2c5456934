"""The stage: the display, audio device and browser of one recording, torn down after it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from recording_farm.browser_bot.errors import StageError
from recording_farm.browser_bot.stage.audio import AudioDevice, open_audio
from recording_farm.browser_bot.stage.browser import Browser, Driver, open_browser
from recording_farm.browser_bot.stage.cleanup import PREFIX, write_owner
from recording_farm.browser_bot.stage.devices import OUTPUTS
from recording_farm.browser_bot.stage.display import Display, open_display
from recording_farm.browser_bot.stage.environment import DEFAULT_ENVIRONMENT, Environment
from recording_farm.browser_bot.stage.network import StageNetwork
from recording_farm.browser_bot.stage.pointer import park_pointer
from recording_farm.browser_bot.stage.process_usage import Usage, processes_in_group, read_usage
from recording_farm.browser_bot.stage.windows import Windows, manage_windows
from recording_farm.browser_bot.waiting import first_done

DISPLAY_TIMEOUT = 10.0


@dataclass(frozen=True)
class Stage:
    """A running stage and the directory of its files."""

    directory: Path
    display: Display
    windows: Windows
    audio: AudioDevice
    browser: Browser
    driver: Driver
    network: StageNetwork | None = None

    async def died(self) -> StageError:
        """Wait until display or audio device die or hang, or the network dies, and return the error."""
        ends = [self.display.server.died(), self.audio.daemon.died(), self.display.hung(), self.audio.hung()]
        if self.network is not None:
            ends.append(self.network.died())
        try:
            return (await first_done(*ends)).result()
        except OSError as error:
            return StageError(f"cannot monitor the display and the audio device: {error}")

    def usage(self) -> list[Usage]:
        """Return CPU and memory use of each process of the stage. Reads /proc for about 13 ms."""
        programs = [self.display.server.pid, self.audio.daemon.pid, self.browser.driver_pid]
        if self.network is not None and self.network.relay is not None:
            programs.append(self.network.relay.pid)
        return read_usage([*programs, *processes_in_group(self.browser.pid)])

    def memory(self) -> int:
        """Return the memory of all processes in bytes; shared memory counts once. Takes about 13 ms."""
        return sum(process.memory for process in self.usage())


@asynccontextmanager
async def open_stage(
    width: int,
    height: int,
    fps: int,
    *,
    chromium: Path | None = None,
    network: StageNetwork | None = None,
    authorities: Path | None = None,
    driver: Driver | None = None,
    environment: Environment = DEFAULT_ENVIRONMENT,
) -> AsyncIterator[Stage]:
    """Run a stage for video of `width` x `height` at `fps`, with a `driver` that may already be running.

    `authorities` is an NSS database of certificate authorities that the browser trusts besides its own. The
    browser reaches other hosts through `network` only; without one, it opens connections by itself.

    Raises StageError if a part does not start, ProgramNotFoundError if one is not installed.
    """
    async with AsyncExitStack() as parts:
        driver = driver or Driver()
        try:
            # Directly below the temporary directory: the path of a Unix socket is limited to 107 bytes.
            directory = Path(tempfile.mkdtemp(prefix=PREFIX))
            parts.callback(shutil.rmtree, directory, ignore_errors=True)
            # Ends a browser that is still starting, so that it writes no more files.
            parts.push_async_callback(driver.close)
            write_owner(directory)
            async with asyncio.TaskGroup() as group:
                group.create_task(driver.start())
                display = group.create_task(_display(parts, open_display(directory, width, height, fps)))
                outputs = OUTPUTS if environment.devices else ()
                audio = group.create_task(parts.enter_async_context(open_audio(directory, outputs)))
            screen, windows = display.result()
            if network is not None:
                await parts.enter_async_context(network.opened(directory))
            browser = await parts.enter_async_context(
                open_browser(
                    driver,
                    directory,
                    width=width,
                    height=height,
                    variables=screen.variables | audio.result().variables,
                    chromium=chromium,
                    network=network,
                    environment=environment,
                    authorities=authorities,
                )
            )
        except* (StageError, OSError) as errors:
            error = errors.exceptions[0]
            if isinstance(error, StageError):
                raise error from None
            raise StageError(getattr(error, "strerror", None) or type(error).__name__) from None
        yield Stage(directory, screen, windows, audio.result(), browser, driver, network)


async def _display(
    parts: AsyncExitStack, opening: AbstractAsyncContextManager[Display]
) -> tuple[Display, Windows]:
    """Open the display, park its pointer and manage its windows before the browser starts."""
    display = await parts.enter_async_context(opening)
    try:
        async with asyncio.timeout(DISPLAY_TIMEOUT):
            await park_pointer(display)
            windows = await parts.enter_async_context(manage_windows(display))
    except TimeoutError:
        raise StageError("Xorg does not answer") from None
    return display, windows
