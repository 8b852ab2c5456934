"""The stage: one display, one sound device and one browser, owned by one recording, torn down after it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from recording_farm.browser_bot.errors import StageError
from recording_farm.browser_bot.stage.browser import Browser, Driver, open_browser
from recording_farm.browser_bot.stage.cleanup import PREFIX, write_owner
from recording_farm.browser_bot.stage.devices import OUTPUTS
from recording_farm.browser_bot.stage.display import Display, open_display
from recording_farm.browser_bot.stage.environment import DEFAULT_ENVIRONMENT, Environment
from recording_farm.browser_bot.stage.pointer import put_pointer_aside
from recording_farm.browser_bot.stage.process_usage import Usage, group_of, usage_of
from recording_farm.browser_bot.stage.sound import Sound, open_sound
from recording_farm.browser_bot.stage.windows import Windows, manage_windows
from recording_farm.browser_bot.waiting import first_done

DISPLAY_TIMEOUT = 10.0


@dataclass(frozen=True)
class Stage:
    """A running stage and the directory of its files."""

    directory: Path
    display: Display
    windows: Windows
    sound: Sound
    browser: Browser
    driver: Driver

    async def died(self) -> StageError:
        """Wait until the display or the sound dies, or hangs, and return the error that tells of it."""
        ends = (self.display.server.died(), self.sound.daemon.died(), self.display.hung(), self.sound.hung())
        try:
            return (await first_done(*ends)).result()
        except OSError as error:
            return StageError(f"display and sound cannot be watched: {error}")

    def usage(self) -> list[Usage]:
        """What each of its processes uses. Reads files of the kernel for some 13 ms."""
        programs = self.display.server.pid, self.sound.daemon.pid, self.browser.driver_pid
        return usage_of([*programs, *group_of(self.browser.pid)])

    def memory(self) -> int:
        """The memory of all its processes in bytes, what they share counted once. Takes some 13 ms."""
        return sum(process.memory for process in self.usage())


@asynccontextmanager
async def open_stage(
    width: int,
    height: int,
    fps: int,
    *,
    chromium: Path | None = None,
    proxy: str | None = None,
    authorities: Path | None = None,
    driver: Driver | None = None,
    environment: Environment = DEFAULT_ENVIRONMENT,
) -> AsyncIterator[Stage]:
    """Run a stage for a picture of `width` x `height` at `fps`, with a `driver` that may run already.

    `authorities` is an NSS database with certificate authorities that the browser trusts besides its own.

    Raises StageError when a part does not come up, ProgramNotFoundError when one is not installed.
    """
    async with AsyncExitStack() as parts:
        driver = driver or Driver()
        try:
            # Directly below the temporary directory: the sockets in it may have no more than 107 bytes of
            # path.
            directory = Path(tempfile.mkdtemp(prefix=PREFIX))
            parts.callback(shutil.rmtree, directory, ignore_errors=True)
            # A browser that was just being started ends with it, and then writes nothing any more.
            parts.push_async_callback(driver.close)
            write_owner(directory)
            async with asyncio.TaskGroup() as group:
                group.create_task(driver.start())
                display = group.create_task(_display(parts, open_display(directory, width, height, fps)))
                outputs = OUTPUTS if environment.devices else ()
                sound = group.create_task(parts.enter_async_context(open_sound(directory, outputs)))
            screen, windows = display.result()
            browser = await parts.enter_async_context(
                open_browser(
                    driver,
                    directory,
                    width=width,
                    height=height,
                    variables=screen.variables | sound.result().variables,
                    chromium=chromium,
                    proxy=proxy,
                    environment=environment,
                    authorities=authorities,
                )
            )
        except* (StageError, OSError) as errors:
            error = errors.exceptions[0]
            raise error if isinstance(error, StageError) else StageError(str(error)) from None
        yield Stage(directory, screen, windows, sound.result(), browser, driver)


async def _display(
    parts: AsyncExitStack, opening: AbstractAsyncContextManager[Display]
) -> tuple[Display, Windows]:
    """Open the display; its pointer touches nothing and its windows wait before there is a browser."""
    display = await parts.enter_async_context(opening)
    try:
        async with asyncio.timeout(DISPLAY_TIMEOUT):
            await put_pointer_aside(display)
            windows = await parts.enter_async_context(manage_windows(display))
    except TimeoutError:
        raise StageError("Xorg does not answer") from None
    return display, windows
