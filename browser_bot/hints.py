"""Hints: how to come into a meeting on a page that knows nothing of recorders, and what not to show of it."""

import asyncio
import logging
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from browser_bot.errors import PageError
from browser_bot.hosts import host_of

logger = logging.getLogger(__name__)

STEP_TIMEOUT = 10.0
# Style elements are what many a page's policy forbids.
_ADD_CSS = """
css => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets.push(sheet);
}
"""

Selector = Annotated[str, StringConstraints(min_length=1, max_length=500)]
"""A CSS selector, or one of Playwright's, such as `text=Join`."""


class _Hint(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Click(_Hint):
    """Click the first element that a selector finds."""

    click: Selector


class Fill(_Hint):
    """Write a text into the first field that a selector finds."""

    fill: Selector
    text: Annotated[str, StringConstraints(max_length=500)]


class WaitFor(_Hint):
    """Wait until an element is visible."""

    wait_for: Selector


class PageHints(_Hint):
    """What to do on a page once it has loaded, in this order: `join`, `css`, `wait_for`, `settle_seconds`."""

    join: Annotated[list[Click | Fill | WaitFor], Field(max_length=20)] = []
    css: Annotated[str, StringConstraints(max_length=10_000)] | None = None
    """Rules that are added to the page's, to hide its controls for instance."""
    wait_for: Selector | None = None
    """The recording begins when this is visible."""
    settle_seconds: Annotated[float, Field(ge=0, le=60)] = 0


NO_HINTS = PageHints()


async def follow(page: Page, hints: PageHints) -> None:
    """Do on a loaded page what the hints say. Raises PageError, naming the one that is of no use there."""
    for step in hints.join:
        await _do(page, step)
    if hints.css is not None:
        try:
            await page.evaluate(_ADD_CSS, hints.css)
        except PlaywrightError as error:
            logger.warning("hint: %s", error.message)
            raise PageError("the page loaded, but the hinted CSS cannot be added") from None
    if hints.wait_for is not None:
        await _do(page, WaitFor(wait_for=hints.wait_for))
    await asyncio.sleep(hints.settle_seconds)


async def _do(page: Page, step: Click | Fill | WaitFor) -> None:
    timeout = STEP_TIMEOUT * 1000
    try:
        match step:
            case Click(click=selector):
                await page.locator(selector).first.click(timeout=timeout)
            case Fill(fill=selector, text=text):
                await page.locator(selector).first.fill(text, timeout=timeout)
            case WaitFor(wait_for=selector):
                await page.locator(selector).first.wait_for(state="visible", timeout=timeout)
    except PlaywrightError:
        # What the driver says holds the text that was to be written, which may be secret.
        raise PageError(
            f"the page loaded, but the hint {selector!r} found nothing to act on in {STEP_TIMEOUT:.0f} s"
        ) from None


# Of Jitsi Meet: its configuration can be overridden in the fragment (`config.…`), so nobody has to click.
_JITSI_FRAGMENT = (
    "config.prejoinConfig.enabled=false&config.startWithAudioMuted=true&config.startWithVideoMuted=true"
    "&config.disableDeepLinking=true&config.disableInitialGUM=true&config.toolbarButtons=[]"
    "&config.notifications=[]&config.hideConferenceSubject=true&userInfo.displayName=%22Recorder%22"
)
JITSI = PageHints(
    css="#new-toolbox, .notification-area, .subject, #localVideoWrapper, .filmstrip__toolbar, .toolbox-icon "
    "{ display: none !important }",
    wait_for="#videospace, #largeVideoContainer",
    settle_seconds=1,
)


def is_jitsi(url: str, hosts: tuple[str, ...]) -> bool:
    """Whether a page is a Jitsi meeting, by its host."""
    try:
        return host_of(urlsplit(url).hostname or "") in hosts
    except ValueError:
        return False


def jitsi_url(url: str) -> str:
    """The URL that joins a Jitsi meeting without asking anything; what its fragment says already wins."""
    parts = urlsplit(url)
    fragment = "&".join(part for part in (_JITSI_FRAGMENT, parts.fragment) if part)
    return urlunsplit(parts._replace(fragment=fragment))
