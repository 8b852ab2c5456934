"""Runs the hinted steps on a page, adds the hinted CSS, and explains why a step failed.

It uses Playwright's locators, which work in an isolated world, pierce open shadow roots, and use real mouse
and keyboard input.
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
    describe_step,
    frame_path,
    is_action,
)
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld
from recording_farm.browser_bot.waiting import first_of

logger = logging.getLogger(__name__)

STEP_TIMEOUT = 10.0
OPTIONAL_TIMEOUT = 3.0
"""Seconds for an optional step; a page without its element delays each recording by this."""

LOOK_TIMEOUT = 3.0
RELEASE_TIMEOUT = 1.0
MAX_NAMED = 5
MAX_NAMED_LENGTH = 100
"""How many unmatched selectors a warning names, and how many characters of each."""

_INVALID_SELECTOR = "is not a valid selector"

# Phrases in Playwright's errors, and their explanations.
_EXPLANATIONS = (
    ("intercepts pointer events", "found an element that stayed covered by another one"),
    ("element is not enabled", "found an element that stayed disabled"),
    ("element is not editable", "found a field that could not be written to"),
    ("is not an <input>", "found an element that cannot be written to"),
    ("element is not stable", "found an element that kept moving"),
    ("element is outside of the viewport", "found an element that stayed outside of the viewport"),
    ("while parsing", _INVALID_SELECTOR),
    ("is not a valid", _INVALID_SELECTOR),
    ("Malformed selector", _INVALID_SELECTOR),
    ("Unknown engine", _INVALID_SELECTOR),
)


# Removes the focus from a field, so that its cursor is not in the recording.
_BLUR = """
(() => {
  let active = document.activeElement;
  while (active?.shadowRoot?.activeElement) active = active.shadowRoot.activeElement;
  if (active && active.matches("input, textarea, [contenteditable]")) active.blur();
})()
"""


class Steps:
    """Runs the hinted steps on a page; the methods raise PageError with a message for users."""

    def __init__(self, page: Page, world: IsolatedWorld, hints: PageHints) -> None:
        """Prepare `hints` for `page`, whose `world` must not be open yet."""
        self._page = page
        self._world = world
        self.hints = hints
        self._css = None if hints.css is None else AddedCss(world, hints.css)

    async def run(self, steps: Sequence[Step]) -> None:
        """Run `steps` in order, then move the pointer away and clear the focus.

        This removes the CSS first, because it may hide the elements.
        """
        if steps and self._css is not None:
            await self._css.off()
        for step in steps:
            await self._run(step)
        if any(is_action(step) for step in steps):
            await self._release()

    async def add_css(self) -> None:
        """Add the CSS to this document and to future ones."""
        if self._css is None:
            return
        try:
            await self._css.on()
        except (NoAnswerError, TimeoutError) as error:
            logger.warning("cannot add the hinted CSS: %r", error)
            raise PageError("the page loaded, but the hinted CSS cannot be added") from None

    async def wait(self) -> None:
        """Wait for the hinted element and the hinted settle time."""
        if self.hints.wait_for is not None:
            await self._run(WaitFor(wait_for=self.hints.wait_for))
        await asyncio.sleep(self.hints.settle_seconds)

    async def css_warning(self) -> str:
        """Return a warning about selectors of the CSS that match nothing now; empty if all match."""
        if self._css is None:
            return ""
        try:
            unmatched = await self._css.unmatched()
        except (NoAnswerError, TimeoutError) as error:
            logger.info("cannot check the hinted CSS: %r", error)
            return ""
        if unmatched is None:
            return "the hinted CSS has no valid rule"
        named = ", ".join(repr(each[:MAX_NAMED_LENGTH]) for each in unmatched[:MAX_NAMED])
        more = f" and {len(unmatched) - MAX_NAMED} more" if len(unmatched) > MAX_NAMED else ""
        return f"the hinted CSS matches nothing so far: {named}{more}" if unmatched else ""

    async def visible_steps(self, seconds: float, *, settle: float) -> list[int]:
        """Return the indexes of the steps whose element to click or fill is visible.

        Waits up to `seconds` for the first of them or for `wait_for`, then `settle` seconds for the others.
        """
        found = {
            index: self._find(step).filter(visible=True).first
            for index, step in enumerate(self.hints.join)
            if is_action(step)
        }
        if not found:
            return []
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        room = [] if self.hints.wait_for is None else [self._page.locator(self.hints.wait_for).first]
        if self._css is not None:
            # The CSS may hide them.
            there = [self._find(self.hints.join[index]).first for index in found]
            await _first_there([*there], "attached", room, seconds)
            await asyncio.sleep(settle)
            await self._css.off()
            visible = await _visible_indexes(found)
            await self._css.on()
            if visible or (room and await room[0].is_visible()) or loop.time() >= ends:
                return visible
        await _first_there([*found.values()], "visible", room, max(0.1, ends - loop.time()))
        await asyncio.sleep(settle)
        return await _visible_indexes(found)

    async def shows_lobby(self) -> bool:
        """Whether the element of the first mandatory step is visible, and the one of `wait_for` is not.

        Without steps there is no lobby. Elements that the CSS hides do not count.
        """
        first = next((step for step in self.hints.join if is_action(step) and not step.optional), None)
        if first is None:
            return False
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                wanted = self.hints.wait_for
                if wanted is not None and await self._page.locator(wanted).first.is_visible():
                    return False
                return await self._find(first).filter(visible=True).first.is_visible()
        except (PlaywrightError, TimeoutError):
            # The page is navigating or hangs, which is handled elsewhere.
            return False

    def _find(self, step: Step) -> Locator:
        """Return a locator for all elements of a step, visible or not."""
        scope: Page | FrameLocator = self._page
        for selector in frame_path(step):
            scope = scope.frame_locator(selector)
        match step:
            case Click(click=selector) | Fill(fill=selector) | WaitFor(wait_for=selector):
                return scope.locator(selector)
            case WaitForText(wait_for_text=text):
                return scope.get_by_text(text)

    async def _run(self, step: Step) -> None:
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
            # The driver's message contains the text of `fill`, which may be secret.
            reason = await self._explain(step, found, error)
            limit = "" if reason == _INVALID_SELECTOR else f" in {seconds:.0f} s"
            problem = f"{describe_step(step)} {reason}{limit}"
            if step.optional:
                logger.info("skipping an optional step: %s", problem)
                return
            raise PageError(f"the page loaded, but {problem}") from None

    async def _explain(self, step: Step, found: Locator, error: PlaywrightError) -> str:
        """Explain why a step failed: which elements it found, and why it could not use them."""
        for phrase, explanation in _EXPLANATIONS:
            if phrase in error.message:
                return explanation
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                scope: Page | FrameLocator = self._page
                for selector in frame_path(step):
                    if not await scope.locator(selector).count():
                        return f"found no frame {selector!r}"
                    scope = scope.frame_locator(selector)
                count = await found.count()
        except (PlaywrightError, TimeoutError):
            count = 0
        if count == 1:
            return "found an element that stayed hidden"
        return f"found {count} elements that stayed hidden" if count else "found no element"

    async def _release(self) -> None:
        """Move the pointer out of the page and remove the focus from fields."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._page.mouse.move(-1, -1)
                asked = (self._world.ask(_BLUR, frame=frame) for frame in self._world.frames)
                await asyncio.gather(self._world.point_away(), *asked, return_exceptions=True)
        except (PlaywrightError, TimeoutError) as error:
            logger.info("cannot move the pointer away or clear the focus: %r", error)


async def _first_there(
    locators: Sequence[Locator],
    state: Literal["attached", "visible"],
    room: Sequence[Locator],
    seconds: float,
) -> None:
    """Wait up to `seconds` until one of `locators` is in `state` or one of `room` is visible."""
    timeout = seconds * 1000
    waiting = {
        f"step {index}": each.wait_for(state=state, timeout=timeout) for index, each in enumerate(locators)
    }
    waiting |= {f"room {index}": each.wait_for(timeout=timeout) for index, each in enumerate(room)}
    with suppress(PlaywrightError):
        await first_of(**waiting)


async def _visible_indexes(found: Mapping[int, Locator]) -> list[int]:
    return [index for index, locator in found.items() if await locator.is_visible()]
