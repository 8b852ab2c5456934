"""The recording SDK of Dyte and RealtimeKit, seen from the recorder's side: a socket and flags on the window.

The SDK connects to `ws://localhost:8080/ws` and says there that recording may start. It is answered in the
page itself (see `page_voice`), so many recordings share a machine without a port. That the recording is over
the SDK tells by its flags alone.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Final

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page

logger = logging.getLogger(__name__)

START: Final = "StartRecording"

TEXT: Final = "ID3Data"
"""What a message is called whose payload goes into the recording; participants send it to all."""

TEXTS_OVER: Final = "CLOSE_TRANSPORT"
"""The payload after which there are none any more in this recording."""

PERIOD: Final = 1.0
"""Seconds between two looks at the flags."""

GONE_SECONDS: Final = 10.0
"""A page that is loaded anew has no SDK for a moment; one that has none for so long is over."""

_ANSWER_TIMEOUT: Final = 5.0

# What the SDK leaves on the window, under both its names. A page that opened the socket by itself has the
# trigger alone.
_STATE: Final = """
(() => {
  const names = [['Dyte', 'dyte'], ['RealtimeKit', 'realtimeKit']];
  const triggers = names.map(([name]) => window[`trigger${name}Recording`]);
  return {
    announced: triggers.some(trigger => trigger === true),
    present: names.some(([, name]) => window[`${name}RecordingSdk`] === true),
    meeting: names.some(([, name]) => Boolean(window[`${name}Recording`])),
    over: triggers.some(trigger => trigger === false),
  };
})()
"""


def timed_text(message: dict[str, Any]) -> str | None:
    """What a message has put into the recording; None if nothing. What is no text goes as JSON."""
    if message.get("type") != TEXT or "payload" not in message:
        return None
    payload = message["payload"]
    return payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)


class RecordingSdk:
    """What the recording SDK of a page says, if it has one."""

    def __init__(self, page: Page, heard: Callable[[dict[str, Any]], None]) -> None:
        """Call `heard` with each message of the page's: an object with a `type`."""
        self._page = page
        self._heard = heard
        self.connected = asyncio.Event()
        """Set once the page has connected: it has the SDK."""

    async def until_over(self) -> None:
        """Wait until the flags say that the recording is over."""
        watch = FlagWatch()
        loop = asyncio.get_running_loop()
        # The page has no event for it.
        while not watch.is_over(await self._state(), loop.time()):  # noqa: ASYNC110
            await asyncio.sleep(PERIOD)
        logger.info("the page's recording SDK says that it is over")

    async def is_announced(self) -> bool:
        """Whether the page has the SDK by its flags, which may come before its socket."""
        state = await self._state()
        return isinstance(state, dict) and any(
            state.get(flag) is True for flag in ("announced", "present", "meeting")
        )

    async def _state(self) -> object:
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                return await self._page.evaluate(_STATE)
        except (PlaywrightError, TimeoutError):
            # It goes away or hangs, which others notice.
            return None

    def hear(self, message: str) -> None:
        """Take a message of the page's; what is no object says nothing to a recorder."""
        try:
            content = json.loads(message)
        except (ValueError, RecursionError):
            # The SDK's other frames are for servers that do more than recording.
            return
        if isinstance(content, dict):
            self._heard(content)


class FlagWatch:
    """Decides from the SDK's flags whether the recording is over."""

    def __init__(self) -> None:
        """Begin with a page that has shown nothing."""
        self._had_meeting = False
        self._gone_since: float | None = None

    def is_over(self, state: object, present: float) -> bool:
        """Whether it is over, by what the page's window had at the time `present` (s); it is a stranger's."""
        if not isinstance(state, dict):
            return False
        if state.get("over") is True:
            return True
        if state.get("meeting") is True:
            self._had_meeting, self._gone_since = True, None
            return False
        if not self._had_meeting:
            return False
        if state.get("present") is True:
            # The SDK has taken its object away: it has left the room.
            return True
        self._gone_since = present if self._gone_since is None else self._gone_since
        return present - self._gone_since >= GONE_SECONDS
