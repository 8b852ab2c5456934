"""Targets of the DevTools protocol (CDP): a page, its frames in other processes and its workers.

Playwright only provides a session for the page. The sessions of its frames and workers use the protocol's
older, nested form: their messages are wrapped in `Target.sendMessageToTarget`
(https://chromedevtools.github.io/devtools-protocol/tot/Target/). Unlike Playwright's `evaluate`, these
commands do not count as user gestures.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Final

from playwright.async_api import CDPSession, Page
from playwright.async_api import Error as PlaywrightError

from recording_farm.browser_bot.errors import NoAnswerError

logger = logging.getLogger(__name__)

MAX_CHILDREN: Final = 100
"""Maximum attached frames and workers of one parent; further ones just run."""

Params = dict[str, Any]
Commands = list[tuple[str, Params]]
SetUp = Callable[["Target"], Commands]
OnEvent = Callable[["Target", str, Params], None]


class Target:
    """A target of the protocol: a page, a frame in its own process, or a worker."""

    def __init__(self, kind: str, target_id: str, set_up: SetUp, on_event: OnEvent) -> None:
        """Create a target of `kind` (page, iframe, worker, …); `set_up` returns its first commands."""
        self.kind = kind
        self.id = target_id
        self._set_up = set_up
        self._on_event = on_event
        self._children: dict[str, ChildTarget] = {}
        self._beginning: set[asyncio.Task[None]] = set()

    async def send(self, method: str, params: Params | None = None) -> Params:
        """Send a command and wait for its result. Raises NoAnswerError. Needs a time-out."""
        raise NotImplementedError

    async def begin(self) -> None:
        """Send the set-up commands, attach to future children, and let it run. Raises NoAnswerError."""
        children = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": False}
        commands = [
            *self._set_up(self),
            ("Target.setAutoAttach", children),
            ("Runtime.runIfWaitingForDebugger", {}),
        ]
        # Concurrently: the target executes them in this order without waiting in between.
        await asyncio.gather(*(self.send(method, params) for method, params in commands))

    def handle(self, method: str, params: Params) -> None:
        """Handle an event of the target."""
        match method:
            case "Target.attachedToTarget":
                self._attached(params)
            case "Target.detachedFromTarget":
                self._detached(str(params.get("sessionId")))
            case "Target.receivedMessageFromTarget":
                child = self._children.get(str(params.get("sessionId")))
                if child is not None:
                    child.receive(str(params.get("message")))
            case _:
                self._on_event(self, method, params)

    def end(self) -> None:
        """Fail pending commands and drop the children; the target is gone."""
        for beginning in self._beginning:
            beginning.cancel()
        for session in list(self._children):
            self._detached(session)

    def _attached(self, params: Params) -> None:
        info = params["targetInfo"]
        child = ChildTarget(
            self, params["sessionId"], info["type"], info["targetId"], self._set_up, self._on_event
        )
        self._children[params["sessionId"]] = child
        is_wanted = child.kind in {"iframe", "worker"} and len(self._children) <= MAX_CHILDREN
        beginning = asyncio.ensure_future(self._begin(child, is_wanted))
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)

    async def _begin(self, child: "ChildTarget", is_wanted: bool) -> None:
        try:
            if is_wanted:
                await child.begin()
            else:
                await child.send("Runtime.runIfWaitingForDebugger")
        except NoAnswerError as error:
            logger.debug("cannot attach to a %s in the page: %s", child.kind, error)

    def _detached(self, session: str) -> None:
        child = self._children.pop(session, None)
        if child is not None:
            child.end()
            self._on_event(child, "Inspector.detached", {})


class PageTarget(Target):
    """The page itself, through a session of Playwright."""

    def __init__(self, session: CDPSession, target_id: str, set_up: SetUp, on_event: OnEvent) -> None:
        """Use a session with the page; see `open_page_target`."""
        super().__init__("page", target_id, set_up, on_event)
        self._session = session
        session.on("event", self._received)
        session.on("close", lambda _: self.end())

    async def send(self, method: str, params: Params | None = None) -> Params:
        """Send a command and wait for its result. Raises NoAnswerError. Needs a time-out."""
        try:
            answer: Params = await self._session.send(method, params)
        except PlaywrightError as error:
            raise NoAnswerError(error.message) from error
        return answer

    async def close(self) -> None:
        """Detach; this also removes what the session has added to the page."""
        self.end()
        try:
            await self._session.detach()
        except PlaywrightError as error:
            logger.debug("the page closed before its session: %s", error.message)

    def _received(self, event: Params) -> None:
        self.handle(event["method"], event.get("params") or {})


class ChildTarget(Target):
    """A frame or a worker, through its parent's session."""

    def __init__(
        self, parent: Target, session: str, kind: str, target_id: str, set_up: SetUp, on_event: OnEvent
    ) -> None:
        """Wrap a target that is attached to `parent` as `session`."""
        super().__init__(kind, target_id, set_up, on_event)
        self._parent = parent
        self._session = session
        self._sent = 0
        self._answers: dict[int, asyncio.Future[Params]] = {}
        self._gone = False

    async def send(self, method: str, params: Params | None = None) -> Params:
        """Send a command and wait for its result. Raises NoAnswerError. Needs a time-out."""
        if self._gone:
            raise NoAnswerError(f"the {self.kind} is gone")
        self._sent += 1
        number = self._sent
        message = json.dumps({"id": number, "method": method, "params": params or {}})
        answer: asyncio.Future[Params] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            await self._parent.send(
                "Target.sendMessageToTarget", {"sessionId": self._session, "message": message}
            )
            return await answer
        finally:
            self._answers.pop(number, None)
            answer.cancel()

    def receive(self, text: str) -> None:
        """Handle a message of the target: an answer or an event."""
        try:
            message = json.loads(text)
        except ValueError:
            logger.debug("a %s in the page sent a malformed message", self.kind)
            return
        if "id" not in message:
            self.handle(str(message.get("method")), message.get("params") or {})
            return
        answer = self._answers.get(message["id"])
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(NoAnswerError(str(message["error"].get("message"))))
        else:
            answer.set_result(message.get("result") or {})

    def end(self) -> None:
        """Fail pending commands and drop the children; the target is gone."""
        self._gone = True
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(NoAnswerError(f"the {self.kind} is gone"))
                # Retrieve the exception; the sender may still be waiting for the parent to forward the
                # command.
                answer.exception()
        super().end()


async def open_page_target(page: Page, set_up: SetUp, on_event: OnEvent) -> PageTarget:
    """Open a session with `page`. Raises NoAnswerError. Needs a time-out from the caller."""
    try:
        session = await page.context.new_cdp_session(page)
        info = await session.send("Target.getTargetInfo")
    except PlaywrightError as error:
        raise NoAnswerError(error.message) from error
    return PageTarget(session, info["targetInfo"]["targetId"], set_up, on_event)
