"""The signals of a page by its contract: it has started, is over, or refuses to be recorded."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from recording_farm.browser_bot.errors import PageDeclinedError, PageOverError
from recording_farm.browser_bot.page.console import ConsoleMessage, signal_in
from recording_farm.browser_bot.page.contracts import END_SIGNAL, REFUSAL_SIGNAL, START_SIGNAL, PageContract
from recording_farm.browser_bot.page.documents import Documents
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld
from recording_farm.browser_bot.page.page_log import PageLog
from recording_farm.browser_bot.page.recording_sdk import START, RecordingSdk, timed_text
from recording_farm.browser_bot.redaction import printable

logger = logging.getLogger(__name__)

LINES_TOLD: Final = 3
"""So many lines of what a page printed are told when it has not printed what it should."""

MAX_TOLD: Final = 80


class PageSignals:
    """The signals of one page, as far as they have come."""

    def __init__(
        self,
        world: IsolatedWorld,
        documents: Documents,
        contract: PageContract,
        page_log: PageLog,
        on_text: Callable[[str], None] | None,
    ) -> None:
        """Hear what `contract` has of the page of `world`, which is not open yet and has `documents`.

        `on_text` gets what is to be put into the recording.
        """
        self._documents = documents
        self._contract = contract
        self._page_log = page_log
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
            self.sdk = RecordingSdk(world, self._told)
        self._reads_console = contract in {PageContract.AUTO, PageContract.CONSOLE}
        self._lines: deque[str] = deque(maxlen=LINES_TOLD)

    def hear(self, printed: ConsoleMessage) -> None:
        """Hear what is printed; frames in the page have no say."""
        if not printed.is_pages:
            return
        signal, reason = "", ""
        if self._reads_console:
            signal, reason = signal_in(printed, (START_SIGNAL, END_SIGNAL), (REFUSAL_SIGNAL,))
        if signal == START_SIGNAL:
            self.started.set()
        elif signal == END_SIGNAL:
            self._ends()
        elif signal == REFUSAL_SIGNAL:
            reason = printable(self._page_log.start_of(reason))
            self._decline(PageDeclinedError(f"the page refuses to be recorded: {reason}"))
        else:
            self._lines.append(printable(self._page_log.start_of(printed.text.strip()))[:MAX_TOLD])

    @property
    def printed(self) -> str:
        """What the page has printed that was no signal, in words."""
        lines = ", ".join(repr(line) for line in self._lines)
        return f"its last lines are {lines}" if lines else "it has printed nothing"

    def forget(self) -> None:
        """Forget what a page has said that failed: it is not the word of the next one."""
        for said in (self.started, self.ended, self._declined):
            said.clear()
        self._lines.clear()

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
        await self.sdk.until_over(self._documents)
        self.ended.set()

    def _ends(self) -> None:
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

    def _told(self, message: dict[str, Any]) -> None:
        if message.get("type") == START:
            self.started.set()
        text = timed_text(message)
        if text is not None and self._on_text is not None:
            self._on_text(text)
        self._page_log.write(f"page SDK: {self._page_log.start_of(json.dumps(message))}")
