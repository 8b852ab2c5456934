"""The steps on a page: takes those of its hints, adds their CSS, waits; and tells why a step has no effect.

Playwright's locators find and act: in an isolated world of their own, through open shadow roots, and with
the mouse and the keys as somebody would who sits there.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import FrameLocator, Locator, Page

from recording_farm.browser_bot.errors import NoAnswerError, PageError
from recording_farm.browser_bot.page.added_css import AddedCss
from recording_farm.browser_bot.page.hints import (
    Click,
    Fill,
    PageHints,
    Step,
    WaitFor,
    WaitForText,
    acts,
    frames_of,
    name_of,
)
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld
from recording_farm.browser_bot.waiting import first_of

logger = logging.getLogger(__name__)

STEP_TIMEOUT = 10.0
OPTIONAL_TIMEOUT = 3.0
"""Seconds for a step that may be missing: each recording of a page without it waits so long."""

LOOK_TIMEOUT = 3.0
LET_GO_TIMEOUT = 1.0
MAX_NAMED = 5
MAX_NAMED_LENGTH = 100
"""So many selectors without effect are named, and so many characters of each."""

# What Playwright's log of a step says of the element that it has found.
_OBSTACLES = (
    ("intercepts pointer events", "found an element that stayed covered by another one"),
    ("element is not enabled", "found an element that stayed disabled"),
    ("element is not editable", "found a field that could not be written to"),
    ("is not an <input>", "found an element that cannot be written to"),
    ("element is not stable", "found an element that did not stand still"),
    ("element is outside of the viewport", "found an element that stayed out of sight"),
    ("while parsing", "is no selector that the browser understands"),
    ("is not a valid", "is no selector that the browser understands"),
    ("Malformed selector", "is no selector that the browser understands"),
    ("Unknown engine", "is no selector that the browser understands"),
)


# As somebody would leave the page who has clicked through it: the pointer elsewhere, the cursor in no field.
_BLUR = """
(() => {
  let active = document.activeElement;
  while (active?.shadowRoot?.activeElement) active = active.shadowRoot.activeElement;
  if (active && active.matches("input, textarea, [contenteditable]")) active.blur();
})()
"""


class Steps:
    """Takes the hinted steps on a page; every method raises PageError, in words for people."""

    def __init__(self, page: Page, world: IsolatedWorld, hints: PageHints) -> None:
        """Follow `hints` on `page`, whose `world` is not open yet."""
        self._page = page
        self._world = world
        self.hints = hints
        self._css = None if hints.css is None else AddedCss(world, hints.css)

    async def take(self, steps: Sequence[Step]) -> None:
        """Take these of the steps, one after the other, and leave no trace of the pointer.

        The CSS holds no more then: it may hide what they act on.
        """
        if steps and self._css is not None:
            await self._css.off()
        for step in steps:
            await self._take(step)
        if any(acts(step) for step in steps):
            await self._let_go()

    async def add_css(self) -> None:
        """Have the CSS hold, in this document and those to come."""
        if self._css is None:
            return
        try:
            await self._css.on()
        except (NoAnswerError, TimeoutError) as error:
            logger.warning("hint: %r", error)
            raise PageError("the page loaded, but the hinted CSS cannot be added") from None

    async def wait(self) -> None:
        """Wait until the page shows what it is to show when the recording begins."""
        if self.hints.wait_for is not None:
            await self._take(WaitFor(wait_for=self.hints.wait_for))
        await asyncio.sleep(self.hints.settle_seconds)

    async def without_effect(self) -> str:
        """What of the CSS finds nothing on the page just now, in words; nothing if all of it does."""
        if self._css is None:
            return ""
        try:
            idle = await self._css.idle()
        except (NoAnswerError, TimeoutError) as error:
            logger.info("whether the hinted CSS has an effect is not known: %r", error)
            return ""
        if idle is None:
            return "the hinted CSS has no rule that the browser understands"
        named = ", ".join(repr(each[:MAX_NAMED_LENGTH]) for each in idle[:MAX_NAMED])
        more = f" and {len(idle) - MAX_NAMED} more" if len(idle) > MAX_NAMED else ""
        return f"the hinted CSS finds nothing to act on so far: {named}{more}" if idle else ""

    async def visible(self, seconds: float, *, settle: float) -> list[int]:
        """Which of the steps find what they click or fill, by their places.

        The page has so many `seconds` to show one of them, or what is waited for, and then `settle` more to
        show the others.
        """
        found = {
            place: self._find(step).filter(visible=True).first
            for place, step in enumerate(self.hints.join)
            if acts(step)
        }
        if not found:
            return []
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        room = [] if self.hints.wait_for is None else [self._page.locator(self.hints.wait_for).first]
        if self._css is not None:
            # It may be the CSS that hides them.
            there = [self._find(self.hints.join[place]).first for place in found]
            await _first_there([*there], "attached", room, seconds)
            await asyncio.sleep(settle)
            await self._css.off()
            seen = await _seen(found)
            await self._css.on()
            if seen or (room and await room[0].is_visible()) or loop.time() >= ends:
                return seen
        await _first_there([*found.values()], "visible", room, max(0.1, ends - loop.time()))
        await asyncio.sleep(settle)
        return await _seen(found)

    async def shows_lobby(self) -> bool:
        """Whether the page shows what the first step that must be taken acts on, and not what is waited for.

        Without steps there is no lobby. What the CSS hides is not seen.
        """
        first = next((step for step in self.hints.join if acts(step) and not step.optional), None)
        if first is None:
            return False
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                wanted = self.hints.wait_for
                if wanted is not None and await self._page.locator(wanted).first.is_visible():
                    return False
                return await self._find(first).filter(visible=True).first.is_visible()
        except (PlaywrightError, TimeoutError):
            # It goes away or hangs, which others notice.
            return False

    def _find(self, step: Step) -> Locator:
        """What a step acts on: all that its selector finds, visible or not."""
        place: Page | FrameLocator = self._page
        for selector in frames_of(step):
            place = place.frame_locator(selector)
        match step:
            case Click(click=selector) | Fill(fill=selector) | WaitFor(wait_for=selector):
                return place.locator(selector)
            case WaitForText(wait_for_text=text):
                return place.get_by_text(text)

    async def _take(self, step: Step) -> None:
        seconds = OPTIONAL_TIMEOUT if step.optional else STEP_TIMEOUT
        timeout = seconds * 1000
        found = self._find(step)
        visible = found.filter(visible=True).first
        try:
            match step:
                case Click():
                    await visible.click(timeout=timeout)
                case Fill(text=text):
                    await visible.fill(text, timeout=timeout)
                case WaitFor() | WaitForText():
                    await visible.wait_for(state="visible", timeout=timeout)
        except PlaywrightError as error:
            # What the driver says holds the text that was to be written, which may be secret.
            why = f"{name_of(step)} {await self._why_not(step, found, error)} in {seconds:.0f} s"
            if step.optional:
                logger.info("%s; it is optional", why)
                return
            raise PageError(f"the page loaded, but {why}") from None

    async def _why_not(self, step: Step, found: Locator, error: PlaywrightError) -> str:
        """Why nothing came of a step, in words: what it found, and what was in the way."""
        for sign, words in _OBSTACLES:
            if sign in error.message:
                return words
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                place: Page | FrameLocator = self._page
                for selector in frames_of(step):
                    if not await place.locator(selector).count():
                        return f"found no frame {selector!r}"
                    place = place.frame_locator(selector)
                count = await found.count()
        except (PlaywrightError, TimeoutError):
            count = 0
        if count == 1:
            return "found an element that stayed hidden"
        return f"found {count} elements that stayed hidden" if count else "found nothing to act on"

    async def _let_go(self) -> None:
        """Have the pointer of the steps point at nothing any more, and no field wait for more text."""
        try:
            async with asyncio.timeout(LET_GO_TIMEOUT):
                await self._page.mouse.move(-1, -1)
                asked = (self._world.ask(_BLUR, frame=frame) for frame in self._world.frames)
                await asyncio.gather(self._world.point_away(), *asked, return_exceptions=True)
        except (PlaywrightError, TimeoutError) as error:
            logger.info("the page went on, or a frame of it hangs, while it was let go: %r", error)


async def _first_there(
    locators: Sequence[Locator],
    state: Literal["attached", "visible"],
    room: Sequence[Locator],
    seconds: float,
) -> None:
    """Wait until one of `locators` is in that state or `room` is visible, but not longer than that."""
    timeout = seconds * 1000
    waiting = {
        f"step {place}": each.wait_for(state=state, timeout=timeout) for place, each in enumerate(locators)
    }
    waiting |= {f"room {place}": each.wait_for(timeout=timeout) for place, each in enumerate(room)}
    with suppress(PlaywrightError):
        await first_of(**waiting)


async def _seen(found: Mapping[int, Locator]) -> list[int]:
    return [place for place, locator in found.items() if await locator.is_visible()]
