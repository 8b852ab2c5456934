"""What a page tells its recorder by its contract: that it has begun, is over, or will not be recorded."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page

from browser_bot.browser import DRIVER_GRACE
from browser_bot.contracts import END_SIGNAL, REFUSAL_SIGNAL, START_SIGNAL, PageContract
from browser_bot.diary import Diary
from browser_bot.errors import PageDeclinedError, PageOverError
from browser_bot.page_voice import PageVoice
from browser_bot.recording_sdk import START, RecordingSdk, timed_text
from browser_bot.redaction import printable

logger = logging.getLogger(__name__)


class Hearing:
    """Hears a page; `listen` before it is opened, `close` when it is heard no more."""

    def __init__(
        self, page: Page, contract: PageContract, diary: Diary, on_text: Callable[[str], None] | None
    ) -> None:
        """Hear what `contract` has. `on_text` gets what is to be put into the recording."""
        self._contract = contract
        self._diary = diary
        self._on_text = on_text
        self.started = asyncio.Event()
        """The page has said that recording may start."""
        self.ended = asyncio.Event()
        """The page has said that it is over."""
        self._declined = asyncio.Event()
        self._why = PageDeclinedError()
        self.sdk: RecordingSdk | None = None
        """The page's recording SDK, if the contract has any."""
        if contract in {PageContract.AUTO, PageContract.SDK}:
            self.sdk = RecordingSdk(page, self._told)
        has_signals = contract in {PageContract.AUTO, PageContract.CONSOLE}
        signals = (START_SIGNAL, END_SIGNAL, REFUSAL_SIGNAL) if has_signals else ()
        self._voice: PageVoice | None = None
        if contract is not PageContract.PLAIN:
            self._voice = PageVoice(page, signals, self.sdk is not None, self._said)

    async def listen(self) -> None:
        """Listen from now on, if the page can be listened to."""
        if self._voice is None:
            return
        try:
            async with asyncio.timeout(DRIVER_GRACE):
                await self._voice.listen()
        except (PlaywrightError, TimeoutError) as error:
            logger.warning("the page cannot be heard: %r", error)

    def close(self) -> None:
        """Listen no more."""
        if self._voice is not None:
            self._voice.close()

    def forget(self) -> None:
        """Forget what a page has said that failed: it is not the word of the next one."""
        for said in (self.started, self.ended, self._declined):
            said.clear()

    @property
    def has_sdk(self) -> bool:
        """Whether the page's recording SDK has connected."""
        return self.sdk is not None and self.sdk.connected.is_set()

    async def declined(self) -> None:
        """Wait until the page says, before it has begun, that there is nothing to be recorded, and raise it.

        Raises PageOverError when its meeting is over, PageDeclinedError when it refuses.
        """
        await self._declined.wait()
        raise self._why

    async def until_sdk_is_over(self) -> None:
        """Look at the SDK's flags until they say that the recording is over, and set `ended`."""
        if self.sdk is None:
            return
        if self._contract is PageContract.AUTO:
            await self.sdk.connected.wait()
        await self.sdk.until_over()
        self.ended.set()

    def _said(self, kind: str, text: str) -> None:
        if kind == "console" and text.startswith(REFUSAL_SIGNAL):
            reason = printable(self._diary.start_of(text.removeprefix(REFUSAL_SIGNAL).strip()))
            self._decline(PageDeclinedError(f"the page refuses to be recorded: {reason}"))
        elif kind == "console" and text == START_SIGNAL:
            self.started.set()
        elif kind == "console":
            if not self.started.is_set():
                self._decline(
                    PageOverError(
                        f"the page printed {END_SIGNAL} before {START_SIGNAL}: its meeting was over, "
                        "or it could not connect to it"
                    )
                )
            self.ended.set()
        elif kind == "connected" and self.sdk is not None:
            logger.info("the page's recording SDK has connected")
            self.sdk.connected.set()
        elif kind == "message" and self.sdk is not None:
            self.sdk.hear(text)

    def _decline(self, why: PageDeclinedError) -> None:
        if not self._declined.is_set():
            self._why = why
        self._declined.set()

    def _told(self, message: dict[str, Any]) -> None:
        if message.get("type") == START:
            self.started.set()
        text = timed_text(message)
        if text is not None and self._on_text is not None:
            self._on_text(text)
        self._diary.write(f"page SDK: {self._diary.start_of(json.dumps(message))}")
