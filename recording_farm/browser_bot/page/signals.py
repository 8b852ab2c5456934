"""The signals of a page under its contract: started, over, or recording refused."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from recording_farm.browser_bot.errors import PageDeclinedError, PageOverError
from recording_farm.browser_bot.page.console import ConsoleMessage, find_signal
from recording_farm.browser_bot.page.contracts import END_SIGNAL, REFUSAL_SIGNAL, START_SIGNAL, PageContract
from recording_farm.browser_bot.page.documents import Documents
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld
from recording_farm.browser_bot.page.page_log import PageLog
from recording_farm.browser_bot.page.recording_sdk import START, RecordingSdk, timed_text

logger = logging.getLogger(__name__)

MAX_LAST_LINES: Final = 3
"""How many printed lines an error quotes if the page did not print its signal."""

MAX_LINE_LENGTH: Final = 80


class PageSignals:
    """The signals of one page that have arrived so far."""

    def __init__(
        self,
        world: IsolatedWorld,
        documents: Documents,
        contract: PageContract,
        page_log: PageLog,
        on_text: Callable[[str], None] | None,
    ) -> None:
        """Receive the signals of `contract` from the page of `world`, which must not be open yet.

        `documents` are the page's. `on_text` is called with texts for the recording.
        """
        self._documents = documents
        self._contract = contract
        self._page_log = page_log
        self._on_text = on_text
        self.started = asyncio.Event()
        """The page has sent its start signal."""
        self.ended = asyncio.Event()
        """The page has sent its end signal."""
        self._declined = asyncio.Event()
        self._why = PageDeclinedError()
        self.sdk: RecordingSdk | None = None
        """The page's recording SDK, if the contract allows one."""
        if contract in {PageContract.AUTO, PageContract.SDK}:
            self.sdk = RecordingSdk(world, self._on_sdk_message)
        self._reads_console = contract in {PageContract.AUTO, PageContract.CONSOLE}
        self._lines: deque[str] = deque(maxlen=MAX_LAST_LINES)

    def on_console(self, printed: ConsoleMessage) -> None:
        """Handle a console message; those of child frames are ignored."""
        if not printed.is_pages:
            return
        signal, reason = "", ""
        if self._reads_console:
            signal, reason = find_signal(printed, (START_SIGNAL, END_SIGNAL), (REFUSAL_SIGNAL,))
        if signal == START_SIGNAL:
            self.started.set()
        elif signal == END_SIGNAL:
            self._on_end()
        elif signal == REFUSAL_SIGNAL:
            reason = self._page_log.start_of(reason)
            self._decline(PageDeclinedError(f"the page refuses to be recorded: {reason}"))
        else:
            self._lines.append(self._page_log.start_of(printed.text.strip())[:MAX_LINE_LENGTH])

    @property
    def printed(self) -> str:
        """The last printed lines without signals, for error messages."""
        lines = ", ".join(repr(line) for line in self._lines)
        return f"its last lines were {lines}" if lines else "it printed nothing"

    def reset(self) -> None:
        """Clear all signals, for the next attempt to open a page."""
        for signal in (self.started, self.ended, self._declined):
            signal.clear()
        self._lines.clear()

    @property
    def has_sdk(self) -> bool:
        """Whether the page's recording SDK has connected."""
        return self.sdk is not None and self.sdk.connected.is_set()

    async def declined(self) -> None:
        """Wait until the page signals, before its start, that there is nothing to record, and raise the
        error.

        Raises PageOverError if its meeting is over, PageDeclinedError if it refuses.
        """
        await self._declined.wait()
        raise self._why

    async def wait_until_sdk_over(self) -> None:
        """Poll the SDK's flags until they indicate that the recording is over, and set `ended`."""
        if self.sdk is None:
            return
        if self._contract is PageContract.AUTO:
            await self.sdk.connected.wait()
        await self.sdk.wait_until_over(self._documents)
        self.ended.set()

    def _on_end(self) -> None:
        if not self.started.is_set():
            self._decline(
                PageOverError(
                    f"the page printed {END_SIGNAL} before {START_SIGNAL}: its meeting was over, "
                    "or it could not connect to it"
                )
            )
        self.ended.set()

    def _decline(self, why: PageDeclinedError) -> None:
        if not self._declined.is_set():
            self._why = why
        self._declined.set()

    def _on_sdk_message(self, message: dict[str, Any]) -> None:
        if message.get("type") == START:
            self.started.set()
        text = timed_text(message)
        if text is not None and self._on_text is not None:
            self._on_text(text)
        self._page_log.write(f"page SDK: {self._page_log.start_of(json.dumps(message))}")
