"""The stage that a module's tests share."""

import asyncio

from playwright.async_api import Error as PlaywrightError

from recording_farm.browser_bot.stage.stage import Stage

WIDTH, HEIGHT = 320, 180


async def blank(stage: Stage) -> Stage:
    """A stage whose page shows nothing, also not the browser's own words about the last one."""
    async with asyncio.timeout(10):
        while True:
            try:
                await stage.browser.page.goto("about:blank")
                return stage
            except PlaywrightError:  # Chromium's page about what went wrong comes in between
                await asyncio.sleep(0.1)
