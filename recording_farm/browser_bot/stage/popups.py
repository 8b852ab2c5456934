"""Closes popups as they open, and refuses passkeys and file choosers: a browser keeps to its one page.

Chromium blocks popups of a page that nobody has clicked on. For some seconds after a click, of a hint for
instance, it lets them through, and a tab would stand over the page in the recording. It does so for 30 to 50
ms (measured), until it is closed; a popup with a window of its own is never shown (`windows`).
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from playwright.async_api import BrowserContext, CDPSession, Page
from playwright.async_api import Error as PlaywrightError

logger = logging.getLogger(__name__)

# A key on USB that fails to verify its user: each request, for a new passkey or one that is there, is refused
# at once (NotAllowedError). With no key at all a page would wait for its time-out.
_USELESS_KEY: Final = {
    "protocol": "ctap2",
    "transport": "usb",
    "hasUserVerification": True,
    "isUserVerified": False,
    "automaticPresenceSimulation": True,
}


async def keep_to_one_page(context: BrowserContext, page: Page) -> None:
    """Close every other page as it is opened, also one whose document never comes; refuse passkeys and files.

    That goes on as long as the browser does. Raises PlaywrightError when it cannot be told; put a time-out
    around it.
    """
    assert context.browser is not None
    of_browser, of_page = await asyncio.gather(
        context.browser.new_browser_cdp_session(), context.new_cdp_session(page)
    )
    own = (await of_page.send("Target.getTargetInfo"))["targetInfo"]["targetId"]
    closing: set[asyncio.Task[None]] = set()

    def created(event: Mapping[str, Any]) -> None:
        target = event["targetInfo"]
        # One with a subtype is no window: a page that is loaded in advance.
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
    logger.info("a window that the page opened is closed")
    try:
        await browser.send("Target.closeTarget", {"targetId": target})
    except PlaywrightError as error:
        logger.debug("it was gone before: %s", error.message)


async def _cancel_file_choosers(page: CDPSession) -> None:
    """Have the page's file choosers cancelled as they open.

    Where a preference or a policy forbids them (AllowFileSelectionDialogs), a bar above the page says so.
    """
    await page.send("Page.enable")
    await page.send("Page.setInterceptFileChooserDialog", {"enabled": True, "cancel": True})


async def _refuse_passkeys(page: CDPSession) -> None:
    await page.send("WebAuthn.enable", {"enableUI": False})
    await page.send("WebAuthn.addVirtualAuthenticator", {"options": _USELESS_KEY})
