"""Targets of the DevTools protocol (CDP): a page, its frames in other processes and its workers.

Playwright gives a session for the page alone, so sessions of what is in it are its children in the protocol's
older, nested form: `Target.sendMessageToTarget` carries their messages
(https://chromedevtools.github.io/devtools-protocol/tot/Target/). Unlike Playwright's `evaluate`, nothing that
is sent here counts as a gesture of the user.
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
"""Frames and workers of one parent that are asked and heard; more of them only run."""

Params = dict[str, Any]
Commands = list[tuple[str, Params]]
SetUp = Callable[["Target"], Commands]
Hear = Callable[["Target", str, Params], None]


class Target:
    """One target of the protocol: a page, a frame in a process of its own, or a worker."""

    def __init__(self, kind: str, target_id: str, set_up: SetUp, hear: Hear) -> None:
        """Make one of `kind` (page, iframe, worker, …); `set_up` says what it is told before it runs."""
        self.kind = kind
        self.id = target_id
        self._set_up = set_up
        self._hear = hear
        self._children: dict[str, ChildTarget] = {}
        self._beginning: set[asyncio.Task[None]] = set()

    async def send(self, method: str, params: Params | None = None) -> Params:
        """Send a command and wait for its result. Raises NoAnswerError; put a time-out around it."""
        raise NotImplementedError

    async def begin(self) -> None:
        """Set it up, its children from now on too, and let it run. Raises NoAnswerError."""
        children = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": False}
        commands = [
            *self._set_up(self),
            ("Target.setAutoAttach", children),
            ("Runtime.runIfWaitingForDebugger", {}),
        ]
        # All at once: the target carries them out in this order, and waits for nobody in between.
        await asyncio.gather(*(self.send(method, params) for method, params in commands))

    def take(self, method: str, params: Params) -> None:
        """Take an event of the target's."""
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
                self._hear(self, method, params)

    def end(self) -> None:
        """Nobody answers any more."""
        for beginning in self._beginning:
            beginning.cancel()
        for session in list(self._children):
            self._detached(session)

    def _attached(self, params: Params) -> None:
        info = params["targetInfo"]
        child = ChildTarget(
            self, params["sessionId"], info["type"], info["targetId"], self._set_up, self._hear
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
            logger.debug("a %s in the page could not be asked: %s", child.kind, error)

    def _detached(self, session: str) -> None:
        child = self._children.pop(session, None)
        if child is not None:
            child.end()
            self._hear(child, "Inspector.detached", {})


class PageTarget(Target):
    """The page itself, through a session of Playwright's."""

    def __init__(self, session: CDPSession, target_id: str, set_up: SetUp, hear: Hear) -> None:
        """Use a session that is the page's; see `open_page_target`."""
        super().__init__("page", target_id, set_up, hear)
        self._session = session
        session.on("event", self._received)
        session.on("close", lambda _: self.end())

    async def send(self, method: str, params: Params | None = None) -> Params:
        """Send a command and wait for its result. Raises NoAnswerError; put a time-out around it."""
        try:
            answer: Params = await self._session.send(method, params)
        except PlaywrightError as error:
            raise NoAnswerError(error.message) from error
        return answer

    async def close(self) -> None:
        """Ask no more. What the session has put into the page goes with it."""
        self.end()
        try:
            await self._session.detach()
        except PlaywrightError as error:
            logger.debug("the page was gone before its session: %s", error.message)

    def _received(self, event: Params) -> None:
        self.take(event["method"], event.get("params") or {})


class ChildTarget(Target):
    """A frame or a worker, through the session of its parent."""

    def __init__(
        self, parent: Target, session: str, kind: str, target_id: str, set_up: SetUp, hear: Hear
    ) -> None:
        """Begin with a target that is attached to `parent` as `session`."""
        super().__init__(kind, target_id, set_up, hear)
        self._parent = parent
        self._session = session
        self._sent = 0
        self._answers: dict[int, asyncio.Future[Params]] = {}
        self._gone = False

    async def send(self, method: str, params: Params | None = None) -> Params:
        """Send a command and wait for its result. Raises NoAnswerError; put a time-out around it."""
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
        """Take a message of the target's: an answer or an event."""
        try:
            message = json.loads(text)
        except ValueError:
            logger.debug("a %s in the page sent what is no message", self.kind)
            return
        if "id" not in message:
            self.take(str(message.get("method")), message.get("params") or {})
            return
        answer = self._answers.get(message["id"])
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(NoAnswerError(str(message["error"].get("message"))))
        else:
            answer.set_result(message.get("result") or {})

    def end(self) -> None:
        """Nobody answers any more."""
        self._gone = True
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(NoAnswerError(f"the {self.kind} is gone"))
                # Whoever sent may itself wait for its parent to have passed it on.
                answer.exception()
        super().end()


async def open_page_target(page: Page, set_up: SetUp, hear: Hear) -> PageTarget:
    """A session with `page`. Raises NoAnswerError; put a time-out around it."""
    try:
        session = await page.context.new_cdp_session(page)
        info = await session.send("Target.getTargetInfo")
    except PlaywrightError as error:
        raise NoAnswerError(error.message) from error
    return PageTarget(session, info["targetInfo"]["targetId"], set_up, hear)
