"""Closes popups as they open, rejects passkeys and cancels file choosers, so that the page stays visible.

Chromium blocks popups of a page without a user gesture. For some seconds after a click, such as one of a
hint, it allows them, and a new tab covers the page in the recording. It is closed after 30 to 50 ms
(measured). A popup with its own window is never visible (`windows`).
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from playwright.async_api import BrowserContext, CDPSession, Page
from playwright.async_api import Error as PlaywrightError

logger = logging.getLogger(__name__)

# A virtual USB key that never verifies its user, so each request to create or use a passkey fails at once
# (NotAllowedError). Without a key the page would wait for its time-out.
_REJECTING_KEY: Final = {
    "protocol": "ctap2",
    "transport": "usb",
    "hasUserVerification": True,
    "isUserVerified": False,
    "automaticPresenceSimulation": True,
}


async def block_popups(context: BrowserContext, page: Page) -> None:
    """Close every other page as it opens, even before its document loads; reject passkeys and file choosers.

    This stays active until the browser ends. Raises PlaywrightError if the browser does not accept it. Needs
    a time-out from the caller.
    """
    assert context.browser is not None
    of_browser, of_page = await asyncio.gather(
        context.browser.new_browser_cdp_session(), context.new_cdp_session(page)
    )
    own = (await of_page.send("Target.getTargetInfo"))["targetInfo"]["targetId"]
    closing: set[asyncio.Task[None]] = set()

    def created(event: Mapping[str, Any]) -> None:
        target = event["targetInfo"]
        # A page target with a subtype is a prerendered page, not a window.
        if target["type"] == "page" and not target.get("subtype") and target["targetId"] != own:
            task = asyncio.ensure_future(_close(of_browser, target["targetId"]))
            closing.add(task)
            task.add_done_callback(closing.discard)

    of_browser.on("Target.targetCreated", created)
    await asyncio.gather(
        of_browser.send("Target.setDiscoverTargets", {"discover": True}),
        _refuse_passkeys(of_page),
        _cancel_file_choosers(of_page),
    )


async def _close(browser: CDPSession, target: str) -> None:
    logger.info("closing a window that the page opened")
    try:
        await browser.send("Target.closeTarget", {"targetId": target})
    except PlaywrightError as error:
        logger.debug("the window closed by itself: %s", error.message)


async def _cancel_file_choosers(page: CDPSession) -> None:
    """Cancel the page's file choosers as they open.

    Forbidding them by preference or policy (AllowFileSelectionDialogs) would show a bar above the page.
    """
    await page.send("Page.enable")
    await page.send("Page.setInterceptFileChooserDialog", {"enabled": True, "cancel": True})


async def _refuse_passkeys(page: CDPSession) -> None:
    await page.send("WebAuthn.enable", {"enableUI": False})
    await page.send("WebAuthn.addVirtualAuthenticator", {"options": _REJECTING_KEY})
