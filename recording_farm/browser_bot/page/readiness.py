"""Readiness: waits, with time-outs, until a joined page may be recorded according to its contract."""

import asyncio
import logging

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page

from recording_farm.browser_bot.errors import NoAnswerError, PageError, PageOverError
from recording_farm.browser_bot.page.contracts import START_SIGNAL, PageContract
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld
from recording_farm.browser_bot.page.recording_sdk import START
from recording_farm.browser_bot.page.signals import PageSignals
from recording_farm.browser_bot.waiting import first_of

logger = logging.getLogger(__name__)

PAUSE = 0.05
"""Seconds before a page is checked again after it has changed."""


async def wait_until_ready(
    page: Page, world: IsolatedWorld, contract: PageContract, signals: PageSignals
) -> None:
    """Wait until `page` may be recorded. Raises PageError if it does not signal that in time."""
    match contract:
        case PageContract.PLAIN:
            await _wait_plain(page, world)
        case PageContract.CONSOLE:
            await _wait_for_signal(signals, f"print {START_SIGNAL}")
        case PageContract.SDK:
            await _sdk_started(signals)
        case PageContract.AUTO:
            await first_of(signal=signals.started.wait(), plain=_wait_plain(page, world))
            if not signals.started.is_set() and await has_sdk(signals):
                await _sdk_started(signals)


async def has_sdk(signals: PageSignals) -> bool:
    """Whether the page has a recording SDK, according to its socket or its flags."""
    return signals.has_sdk or (signals.sdk is not None and await signals.sdk.is_announced())


async def _sdk_started(signals: PageSignals) -> None:
    """Wait for the SDK's start signal, up to SIGNAL_TIMEOUT after its socket connects."""
    assert signals.sdk is not None
    try:
        async with asyncio.timeout(SIGNAL_TIMEOUT):
            # With AUTO, the signal of the console counts as well.
            await first_of(connected=signals.sdk.connected.wait(), started=signals.started.wait())
    except TimeoutError:
        raise PageError(
            f"the page loaded, but its recording SDK did not connect within {SIGNAL_TIMEOUT:.0f} s"
        ) from None
    await first_of(started=_wait_for_signal(signals, f"send {START}"), over=_sdk_over(signals))


async def _sdk_over(signals: PageSignals) -> None:
    await signals.wait_until_sdk_over()
    raise PageOverError(f"the page's recording SDK ended without sending {START}")


async def _wait_for_signal(signals: PageSignals, signal: str) -> None:
    try:
        async with asyncio.timeout(SIGNAL_TIMEOUT):
            await signals.started.wait()
    except TimeoutError:
        raise PageError(
            f"the page loaded, but did not {signal} within {SIGNAL_TIMEOUT:.0f} s; {signals.printed}"
        ) from None


async def _wait_plain(page: Page, world: IsolatedWorld) -> None:
    try:
        async with asyncio.timeout(SETTLE_TIMEOUT + 3):
            while not await _settles(world):
                await asyncio.sleep(PAUSE)
                await page.wait_for_load_state("domcontentloaded")
    except TimeoutError:
        logger.warning("the page's script hangs; recording the page as it is")
    except PlaywrightError as error:
        logger.info("the page navigated or closed during the readiness check: %s", error.message)


async def _settles(world: IsolatedWorld) -> bool:
    """Wait until the page has settled; False if it navigated to another document meanwhile."""
    try:
        await world.ask(f"({PLAIN_READY})({SETTLE_TIMEOUT * 1000})")
    except NoAnswerError as error:
        logger.info("the page navigated during the readiness check: %s", error)
        return False
    return True


SIGNAL_TIMEOUT = 120.0
"""How long a page may take from loading to its start signal; the recording SDKs allow two minutes as well."""


SETTLE_TIMEOUT = 2.0
"""How long a plain page may take, after it has loaded, until its videos have a frame."""


# Waits for fonts, images and a decoded frame in each video. Without videos it waits for the whole settle
# time, because a meeting creates its videos only after joining. Two animation frames later everything is
# composited. It runs in the isolated world, where the page cannot replace functions. But an element may still
# shadow a method of the document by its name.
PLAIN_READY = """
async (settle) => {
  const frame = () => new Promise(requestAnimationFrame);
  const settled = new Promise(resolve => setTimeout(resolve, settle, true));
  const all = (root, selector) => [...Document.prototype.querySelectorAll.call(root, selector)];
  const pictures = all(document, 'img').filter(image => !image.complete).map(image =>
    new Promise(resolve => ['load', 'error'].forEach(type => image.addEventListener(type, resolve))));
  const playing = async () => {
    let over = false;
    settled.then(() => { over = true; });
    for (;;) {
      const videos = all(document, 'video');
      if (over || (videos.length && videos.every(video => video.readyState >= 2))) return;
      await frame();
    }
  };
  await Promise.race([settled, Promise.all([document.fonts.ready, ...pictures, playing()])]);
  await frame();
  await frame();
}
"""
