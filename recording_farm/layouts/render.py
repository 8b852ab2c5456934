"""A state's picture: its page on a stage like a recording's, with everything stopped that moves by itself."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from PIL.Image import Image as Picture
from playwright.async_api import CDPSession
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import TimeoutError as PlaywrightTimeout

from recording_farm.browser_bot.errors import NoAnswerError, StageError
from recording_farm.browser_bot.page.added_css import AddedCss
from recording_farm.browser_bot.page.console import ConsoleMessage, find_signal
from recording_farm.browser_bot.page.contracts import START_SIGNAL
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld
from recording_farm.browser_bot.page.opening import HAS_SCRIPT
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from recording_farm.layouts.errors import RenderingFailedError
from recording_farm.layouts.page_faults import LOADED, PageFaults
from recording_farm.layouts.pictures import IDLE_MASKS, MADE_BY, MASK_COLOR, WARNINGS, Box
from recording_farm.layouts.still import still_picture
from recording_farm.layouts.suite import State, Viewport

logger = logging.getLogger(__name__)

FPS = 30
READY_TIMEOUT = 30.0
"""Seconds for each step: to load, to become ready, to run the script."""
LOAD_TIMEOUT = 10.0
"""Seconds for pictures, fonts and frames behind the document; what comes later is not in the picture."""
STATE_TIMEOUT = 90.0
"""Seconds for all of a state, also when the browser does not answer."""
LEAVE_TIMEOUT = 5.0
SLOW_SIGNAL = 5.0
"""Seconds after which a page that has not printed its signal is logged: the suite may wait for nothing."""
TIME_ZONE = "UTC"

# Zero seconds, not no animation: what an animation leaves behind at its end is part of the layout.
STOP_ANIMATIONS = """
*, *::before, *::after {
  animation-delay: 0s !important; animation-duration: 0s !important;
  animation-play-state: running !important;
  transition-delay: 0s !important; transition-duration: 0s !important;
  caret-color: transparent !important; scroll-behavior: auto !important }
"""

# A box over a masked element would also cover what lies over it, a name plate for instance. So its own
# content goes: pictures are moved out of their boxes, all else is hidden or made transparent. Not by a
# filter: with one, the round corners of a frame are drawn in two ways, as chance has it (measured).
MASK_RULES = """
((selectors, color) => {
  const sheet = new CSSStyleSheet();
  for (const selector of selectors) {
    // Nothing else than a selector gets into the rules.
    document.createDocumentFragment().querySelector(selector);
    const masked = `:is(${selector})`;
    sheet.insertRule(`${masked} {
      background: ${color} !important; object-position: -99999px -99999px !important;
      color: transparent !important; -webkit-text-fill-color: transparent !important;
      text-shadow: none !important }`);
    sheet.insertRule(`${masked} *, ${masked}::before, ${masked}::after, ${masked}::placeholder {
      visibility: hidden !important }`);
    sheet.insertRule(`:host(${masked}) * { visibility: hidden !important }`);
  }
  return [...sheet.cssRules].map((rule) => rule.cssText).join("\\n");
})
"""
IS_MASKED = "function () { return SELECTORS.some((selector) => this.matches(selector)); }"
MASK_FRAME = """
((color) => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`html { visibility: visible !important; background: ${color} !important }
    html * { visibility: hidden !important }`);
  document.adoptedStyleSheets.push(sheet);
})
"""

SETTLE = """
(async () => {
  // What has not come by now may never come.
  await Promise.race([document.fonts.ready, new Promise(resolve => setTimeout(resolve, 5000))]);
  const pictures = [...document.images].filter(image => image.loading !== 'lazy' && image.complete);
  await Promise.all(pictures.map(image => image.decode().catch(() => {})));
  for (const animation of document.getAnimations()) {
    try { animation.finish() } catch { animation.cancel() } // one without an end has no end to go to
  }
  for (const drawing of document.querySelectorAll('svg')) {
    drawing.pauseAnimations();
    drawing.setCurrentTime(0);
  }
})()
"""

RANDOM = """
(() => {
  const { imul } = Math;
  let state = 1;
  Math.random = function random() { // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let mixed = imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
})()
"""
"""The same numbers in each document. `crypto` stays random: what uses it must not be predictable."""

DRAW = """
(async () => { for (let n = 0; n < 4; n++) await document.documentElement.animate([], 1).finished })()
"""
"""Each of these takes a frame that is really drawn."""

FORGET = "(() => { try { sessionStorage.clear() } catch { /* a page without an origin has none */ } })()"


class Renderer:
    """Makes pictures of one size, one state after the other, each as if it were the first."""

    def __init__(self, stage: Stage, viewport: Viewport, session: CDPSession, browser: str) -> None:
        """Use a stage whose page is prepared; `browser` is its name and version."""
        self._display = stage.display
        self._page = stage.browser.page
        self._viewport = viewport
        self._session = session
        self._browser = browser
        self._started = asyncio.Event()
        self._world = IsolatedWorld(self._page, on_console=self._heard)
        self._world.add_script(RANDOM)
        self._faults = PageFaults(self._page)
        AddedCss(self._world, STOP_ANIMATIONS, from_start=True)
        self._masks = AddedCss(self._world)

    async def begin(self) -> None:
        """Be there before the first page is. Raises NoAnswerError."""
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                await self._world.open()
        except TimeoutError:
            raise NoAnswerError("it does not answer") from None

    async def picture(self, state: State, address: str) -> Picture:
        """The picture of a state whose page is at `address`. Raises RenderingFailedError."""
        step = "the browser does not answer"
        try:
            async with asyncio.timeout(STATE_TIMEOUT):
                await self._forget(address)
                self._faults.forget()
                await self._page.emulate_media(color_scheme=state.color_scheme)
                step = "its page did not load"
                answered, late = await self._open(state, address)
                step = f"{answered}what it waits for did not appear"
                if state.wait_for is not None:
                    await self._page.wait_for_selector(state.wait_for, timeout=READY_TIMEOUT * 1000)
                step = "its script failed"
                # In the page's own world, to which the suite's author writes it.
                script = f"(async () => {{\n{state.script}\n}})()"
                await self._world.ask_main_world(script, promise=True)
                step = "it did not settle"
                idle = await self._prepare(state)
                boxes = tuple(mask for mask in state.masks if isinstance(mask, Box))
                picture = await still_picture(self._display, self._viewport, boxes, self._drawn)
                warnings = (*late, *await self._not_loaded(state))
        except TimeoutError:
            raise RenderingFailedError(f"{step}: not within {STATE_TIMEOUT:.0f} s") from None
        except PlaywrightTimeout:
            raise RenderingFailedError(f"{step}: not within {READY_TIMEOUT:.0f} s") from None
        except PlaywrightError as error:
            raise RenderingFailedError(f"{step}: {_in_words(error)}") from error
        except NoAnswerError as error:
            raise RenderingFailedError(f"{step}: {str(error).splitlines()[0]}") from error
        finally:
            await self._leave()
        picture.info[MADE_BY] = self._browser
        picture.info[IDLE_MASKS] = idle
        picture.info[WARNINGS] = warnings
        return picture

    async def _forget(self, address: str) -> None:
        """Take away what the states before have left at the page's origin, so that none depends on them."""
        await self._page.context.clear_cookies()
        parts = urlsplit(address)
        if parts.scheme in ("http", "https"):
            origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
            await self._session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})

    async def _open(self, state: State, address: str) -> tuple[str, tuple[str, ...]]:
        """Open the page.

        Returns the error status of its server, in words, if the page may still come, and warnings.
        """
        if state.contract == "plain":
            status, warnings = await self._load(address)
            if status and state.wait_for is None:
                raise RenderingFailedError(f"its page did not load: it answered {status}")
            return f"its page answered {status}, and " if status else "", warnings
        self._started.clear()
        status, warnings = await self._load(address)
        if status and not await self._world.ask(HAS_SCRIPT):
            raise RenderingFailedError(f"its page did not load: it answered {status}")
        await self._signal(state, f"answered {status}, and" if status else "loaded, but")
        return "", warnings

    async def _signal(self, state: State, how: str) -> None:
        """Wait until the page prints its signal. Raises RenderingFailedError."""
        told = f"its page {how} did not print {START_SIGNAL} within"
        slow = asyncio.get_running_loop().call_later(
            SLOW_SIGNAL, logger.warning, "%s: %s %.0f s; waiting", state.name, told, SLOW_SIGNAL
        )
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                await self._started.wait()
        except TimeoutError:
            raise RenderingFailedError(
                f"{told} {READY_TIMEOUT:.0f} s; a page that prints nothing needs `contract: plain`"
            ) from None
        finally:
            slow.cancel()

    def _heard(self, printed: ConsoleMessage) -> None:
        if printed.is_pages and find_signal(printed, (START_SIGNAL,))[0]:
            self._started.set()

    async def _load(self, address: str) -> tuple[str, tuple[str, ...]]:
        """Load the page. Returns its server's status if that is an error's, such as `404`, and warnings."""
        answer = await self._page.goto(address, wait_until="domcontentloaded", timeout=READY_TIMEOUT * 1000)
        warnings = []
        try:
            await self._page.wait_for_load_state("load", timeout=LOAD_TIMEOUT * 1000)
        except PlaywrightTimeout:
            warnings.append(f"parts of the page did not load within {LOAD_TIMEOUT:.0f} s")
        return str(answer.status) if answer is not None and answer.status >= 400 else "", tuple(warnings)

    async def _not_loaded(self, state: State) -> tuple[str, ...]:
        """Parts of the page that did not load and are not masked, in words."""
        masks = json.dumps([mask for mask in state.masks if isinstance(mask, str)])
        answers = []
        for frame in self._world.frames:
            with suppress(NoAnswerError):  # the page may have removed it by now
                answers.append(await self._world.ask(f"{LOADED}({masks})", frame=frame))
        return self._faults.found(answers)

    async def _prepare(self, state: State) -> tuple[str, ...]:
        """Mask, wait for fonts and pictures and stop what moves, in the page and all its frames.

        Returns the masks that have found nothing. Raises NoAnswerError.
        """
        selectors = [mask for mask in state.masks if isinstance(mask, str)]
        masked, color = json.dumps(selectors), json.dumps(f"rgb{MASK_COLOR}")
        await self._masks.put(await self._world.ask(f"{MASK_RULES}({masked}, {color})"))
        for frame in self._world.frames:
            if frame != self._world.main_frame and await self._is_masked(frame, masked):
                await self._world.ask(f"{MASK_FRAME}({color})", frame=frame)
            await self._world.ask(SETTLE, frame=frame)
        found = await self._masks.matches(selectors)
        return tuple(selector for selector, finds in zip(selectors, found, strict=True) if not finds)

    async def _is_masked(self, frame: str, masked: str) -> bool:
        return await self._world.ask_element(frame, IS_MASKED.replace("SELECTORS", masked)) is True

    async def _drawn(self) -> None:
        await self._world.ask(DRAW)

    async def _leave(self) -> None:
        """Take away what only the page itself can, and leave it."""
        with suppress(NoAnswerError, TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self._world.ask(FORGET)
        # Also when it had nothing to forget: what a page that failed shows in its place comes late, and would
        # interrupt the next one.
        with suppress(PlaywrightError, TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT):
                try:
                    await self._page.goto("about:blank")
                except PlaywrightError:
                    # What was shown in its place came between; the blank page comes after it.
                    await self._page.wait_for_url("about:blank")


@asynccontextmanager
async def open_renderer(
    viewport: Viewport, time: datetime, *, chromium: Path | None = None, authorities: Path | None = None
) -> AsyncIterator[Renderer]:
    """Open a stage for pictures of this size, on whose pages it is always `time`.

    Raises RenderingFailedError when the stage does not come up.
    """
    try:
        async with open_stage(
            viewport.width, viewport.height, FPS, chromium=chromium, authorities=authorities
        ) as stage:
            page = stage.browser.page
            await page.emulate_media(reduced_motion="reduce")
            # Timers run on: pages need them to become ready.
            await page.clock.set_fixed_time(time)
            session = await stage.browser.context.new_cdp_session(page)
            await session.send("Emulation.setTimezoneOverride", {"timezoneId": TIME_ZONE})
            version = await session.send("Browser.getVersion")
            renderer = Renderer(stage, viewport, session, str(version["product"]))
            await renderer.begin()
            yield renderer
    except StageError as error:
        raise RenderingFailedError(f"the stage did not come up: {error}") from error
    except PlaywrightError as error:
        raise RenderingFailedError(f"the stage's browser failed: {_in_words(error)}") from error
    except NoAnswerError as error:
        raise RenderingFailedError(f"the stage's browser failed: {error}") from error


def _in_words(error: PlaywrightError) -> str:
    """The first line without Playwright's name for what it did and without the address: it may be secret."""
    line = error.message.splitlines()[0]
    return line.partition(": ")[2].partition(" at http")[0] or line
