"""Readiness: waits until a joined page may be recorded, as its contract says, with time-outs."""

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
"""Seconds until a page is looked at again that has changed meanwhile."""


async def ready(page: Page, world: IsolatedWorld, contract: PageContract, signals: PageSignals) -> None:
    """Wait until `page` may be recorded. Raises PageError when it does not say so in time."""
    match contract:
        case PageContract.PLAIN:
            await _plain(page, world)
        case PageContract.CONSOLE:
            await _signalled(signals, f"print {START_SIGNAL}")
        case PageContract.SDK:
            await _sdk_started(signals)
        case PageContract.AUTO:
            await first_of(signal=signals.started.wait(), plain=_plain(page, world))
            if not signals.started.is_set() and await has_sdk(signals):
                await _sdk_started(signals)


async def has_sdk(signals: PageSignals) -> bool:
    """Whether the page has a recording SDK, by its socket or by its flags."""
    return signals.has_sdk or (signals.sdk is not None and await signals.sdk.is_announced())


async def _sdk_started(signals: PageSignals) -> None:
    """Wait for the SDK's word, which has two minutes from when its socket has connected."""
    assert signals.sdk is not None
    try:
        async with asyncio.timeout(SIGNAL_TIMEOUT):
            # Where both contracts count, the console's word does as well.
            await first_of(connected=signals.sdk.connected.wait(), started=signals.started.wait())
    except TimeoutError:
        raise PageError(
            f"the page loaded, but its recording SDK did not connect within {SIGNAL_TIMEOUT:.0f} s"
        ) from None
    await first_of(started=_signalled(signals, f"send {START}"), over=_sdk_over(signals))


async def _sdk_over(signals: PageSignals) -> None:
    await signals.until_sdk_is_over()
    raise PageOverError(f"the page's recording SDK is over, and has not sent {START}")


async def _signalled(signals: PageSignals, signal: str) -> None:
    try:
        async with asyncio.timeout(SIGNAL_TIMEOUT):
            await signals.started.wait()
    except TimeoutError:
        raise PageError(
            f"the page loaded, but did not {signal} within {SIGNAL_TIMEOUT:.0f} s; {signals.printed}"
        ) from None


async def _plain(page: Page, world: IsolatedWorld) -> None:
    try:
        async with asyncio.timeout(SETTLE_TIMEOUT + 3):
            while not await _settles(world):
                await asyncio.sleep(PAUSE)
                await page.wait_for_load_state("domcontentloaded")
    except TimeoutError:
        logger.warning("the page's script hangs; recording it as it is")
    except PlaywrightError as error:
        logger.info("the page went away while it was looked at: %s", error.message)


async def _settles(world: IsolatedWorld) -> bool:
    """Wait until what the page shows has settled; False if it has gone on to another document meanwhile."""
    try:
        await world.ask(f"({PLAIN_READY})({SETTLE_TIMEOUT * 1000})")
    except NoAnswerError as error:
        logger.info("the page changed while it was looked at: %s", error)
        return False
    return True


SIGNAL_TIMEOUT = 120.0
"""How long a page that speaks the console contract may take from loading to START_RECORDING; the recording
SDKs allow two minutes as well."""


SETTLE_TIMEOUT = 2.0
"""What a plain page gets, after it has loaded, to show its first pictures."""


# Waits for fonts, pictures and, where there are videos, a decoded frame in each; with none it waits the whole
# settle time, since a meeting makes its videos only when it has joined. Two animation frames later all of it
# has been composed. Asked in a world of our own: what the page has replaced is not replaced there. But a page
# may give an element the name of a method of its document.
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
