"""A stage with its gateway, opened for a recording, or before there is one."""

import asyncio
import signal
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from recording_farm.browser_bot.errors import StageError
from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.browser_bot.network.udp_policy import UdpPolicy
from recording_farm.browser_bot.stage.box import NO_LIMITS, StageLimits
from recording_farm.browser_bot.stage.browser import Driver
from recording_farm.browser_bot.stage.environment import DEFAULT_ENVIRONMENT, Environment
from recording_farm.browser_bot.stage.network import open_network
from recording_farm.browser_bot.stage.programs import signal_group
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from recording_farm.browser_bot.waiting import first_of


@dataclass(frozen=True)
class StageNeeds:
    """The stage that a recording needs. `address_rule` None lets its browser open every address.

    Otherwise `udp` says where the packets of WebRTC may go.
    `environment` is the language, time zone and devices of its pages; `authorities` is an NSS database with
    certificate authorities in addition to the system's.
    """

    width: int
    height: int
    fps: int
    chromium: Path | None = None
    address_rule: AddressRule | None = None
    always_allowed: Collection[str] = ()
    local_tls: Collection[str] = ()
    environment: Environment = DEFAULT_ENVIRONMENT
    authorities: Path | None = None
    udp: UdpPolicy = UdpPolicy.FILTERED
    limits: StageLimits = NO_LIMITS


@dataclass(frozen=True)
class OpenedStage:
    """An open stage; its owner closes it."""

    needs: StageNeeds
    stage: Stage
    _parts: AsyncExitStack

    def discard_browser(self) -> Driver:
        """Kill the browser and return its driver for another stage; this one can only be closed then."""
        signal_group(self.stage.browser.pid, signal.SIGKILL)
        return self.stage.driver.transfer()

    async def close(self) -> None:
        """Tear it down."""
        await self._parts.aclose()


async def open_for(needs: StageNeeds, driver: Driver | None = None) -> OpenedStage:
    """Open a stage, with a driver that may run already; it is closed with the stage, or if opening fails.

    Raises StageError when a part does not start, ProgramNotFoundError when one is not installed.
    """
    async with AsyncExitStack() as parts:
        if driver is not None:
            parts.push_async_callback(driver.close)
        network = None
        if needs.address_rule is not None:
            try:
                network = await parts.enter_async_context(
                    open_network(needs.address_rule, needs.always_allowed, needs.udp, needs.local_tls)
                )
            except OSError as error:
                raise StageError(f"the gateway did not start: {error}") from error
        stage = await parts.enter_async_context(
            open_stage(
                needs.width,
                needs.height,
                needs.fps,
                chromium=needs.chromium,
                network=network,
                authorities=needs.authorities,
                driver=driver,
                environment=needs.environment,
                limits=needs.limits,
            )
        )
        return OpenedStage(needs, stage, parts.pop_all())
    raise AssertionError


async def open_before(stop: asyncio.Event, needs: StageNeeds, driver: Driver) -> OpenedStage | None:
    """Open a stage like `open_for`; None if `stop` is set before it is open."""
    opening = asyncio.create_task(open_for(needs, driver))
    try:
        await first_of(opened=asyncio.shield(opening), stop=stop.wait())
    finally:
        opening.cancel()  # no effect if it is done
        await asyncio.gather(opening, return_exceptions=True)
    if opening.cancelled():
        await driver.close()  # `open_for` may not have taken it yet
        return None
    return opening.result()
