"""The stage: the display, audio device and browser of one recording, torn down after it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from recording_farm.browser_bot.errors import StageError, StageLimitError
from recording_farm.browser_bot.stage import control_group
from recording_farm.browser_bot.stage.audio import AudioDevice, open_audio
from recording_farm.browser_bot.stage.box import (
    NO_LIMITS,
    Box,
    BoxUse,
    Resource,
    StageLimits,
    broken_limit,
    is_near,
    limit_error,
)
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

E = TypeVar("E", bound=Exception)

DISPLAY_TIMEOUT = 10.0

LOOK_SECONDS = 1.0
NEAR_LOOK_SECONDS = 0.1
"""Between two looks at what the stage uses: usually, and above half of a limit. A page can allocate a
gigabyte within a second."""


@dataclass(frozen=True)
class Stage:
    """A running stage and the directory of its files."""

    directory: Path
    display: Display
    windows: Windows
    audio: AudioDevice
    browser: Browser
    driver: Driver
    box: Box
    network: StageNetwork | None = None
    group: Path | None = None
    """Its control group, if the machine allows one."""

    async def died(self) -> StageError:
        """Wait until display or audio device die or hang, the network dies, or the page breaks a limit.

        Returns the error.
        """
        ends: list[Coroutine[Any, Any, StageError]] = [
            self.display.server.died(),
            self.audio.daemon.died(),
            self.display.hung(),
            self.audio.hung(),
            self._over_limit(),
        ]
        if self.network is not None:
            ends.append(self.network.died())
        try:
            return self.cause((await first_done(*ends)).result())
        except OSError as error:
            return StageError(f"cannot monitor the display and the audio device: {error}")

    def cause(self, error: E) -> E | StageLimitError:
        """Return the error of the limit that the kernel enforced, if that is the cause of `error`."""
        broken = control_group.broken_limit(self.group) if self.group is not None else None
        return error if broken is None else limit_error(Resource(broken))

    async def _over_limit(self) -> StageLimitError:
        """Wait until the page breaks a limit."""
        while (limits := self.box.limits) != NO_LIMITS:
            use = await asyncio.to_thread(self.box_use)
            if (broken := broken_limit(use, limits)) is not None:
                return limit_error(broken)
            await asyncio.sleep(NEAR_LOOK_SECONDS if is_near(use, limits) else LOOK_SECONDS)
        return await asyncio.Future()

    def box_use(self) -> BoxUse:
        """Return what the box is used for. Reads /proc for 2 ms."""
        programs = self.display.server.pid, self.audio.daemon.pid, self.browser.driver_pid
        return self.box.use([*programs, *processes_in_group(self.browser.pid)])

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
    limits: StageLimits = NO_LIMITS,
) -> AsyncIterator[Stage]:
    """Run a stage for video of `width` x `height` at `fps`, with a `driver` that may already be running.

    `authorities` is an NSS database of certificate authorities that the browser trusts besides its own. The
    browser reaches other hosts through `network` only; without one, it opens connections by itself.
    `Stage.died` reports a page that breaks one of the `limits`.

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
            group = _control_group(parts, directory.name, limits)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(driver.start())
                display = tasks.create_task(_display(parts, open_display(directory, width, height, fps)))
                outputs = OUTPUTS if environment.devices else ()
                audio = tasks.create_task(parts.enter_async_context(open_audio(directory, outputs)))
            screen, windows = display.result()
            if group is not None:
                control_group.add_process(group, screen.server.pid)
                control_group.add_process(group, audio.result().daemon.pid)
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
                    limits=limits,
                    group=group,
                )
            )
        except* (StageError, OSError) as errors:
            error = errors.exceptions[0]
            if isinstance(error, StageError):
                raise error from None
            raise StageError(getattr(error, "strerror", None) or type(error).__name__) from None
        box = Box(directory, limits, browser.pid)
        yield Stage(directory, screen, windows, audio.result(), browser, driver, box, network, group)


def _control_group(parts: AsyncExitStack, name: str, limits: StageLimits) -> Path | None:
    """Make the stage's control group, which is removed last; None if the machine allows none."""
    if limits == NO_LIMITS or (parent := control_group.stages_group()) is None:
        return None
    group = control_group.make_group(parent, name, limits.memory, limits.tasks)
    if group is not None:
        parts.push_async_callback(asyncio.to_thread, control_group.remove_group, group)
    return group


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
