"""An isolated world of JavaScript in a page: questions to the page and its frames, console and errors.

A page is a stranger: it may replace `eval`, `JSON`, `Array.prototype`, `Promise` or `console`. Playwright's
`evaluate` goes through some of these, and counts as a gesture of the user, with which a page may open
windows, file choosers and full screen. So questions go by the browser's protocol, without a gesture, into an
isolated world: the same document, with a JavaScript of its own. What has to be in the page's world is a
script that runs there before the page's own and keeps the browser's functions (`script`).

What a page prints and throws is heard from the browser and not from the page. The browser keeps what was
printed, so that a console opened later can show it, and hands out handles of it: both are let go again.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page

from recording_farm.browser_bot.errors import NoAnswerError
from recording_farm.browser_bot.page.cdp_targets import Commands, PageTarget, Params, Target, open_page_target
from recording_farm.browser_bot.page.console import ConsoleMessage, exception_text, parts_of

logger = logging.getLogger(__name__)

WORLD: Final = "recordingFarm"

LET_GO_SECONDS: Final = 1.0
"""How long the browser keeps what was printed: all that an object holds stays in memory until then."""

MAX_KEPT: Final = 20
"""So many printed objects are let go at once."""

_NO_FILES: Final = {"enabled": True, "cancel": True}
"""File choosers of frames in other processes are cancelled as the page's own are (`popups`)."""


@dataclass
class _Contexts:
    """The worlds of one frame's document, by the ids that the browser gave them."""

    target: Target
    main: str | None = None
    ours: str | None = None


@dataclass
class _Kept:
    """What the browser still keeps of a target's prints."""

    objects: int = 0
    letting_go: asyncio.Task[None] | None = field(default=None, repr=False)
    now: asyncio.Event = field(default_factory=asyncio.Event)


class IsolatedWorld:
    """Asks one page; `open` before the page is opened, `close` when it is asked no more."""

    def __init__(
        self,
        page: Page,
        *,
        printed: Callable[[ConsoleMessage], None] = lambda _: None,
        thrown: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Ask `page`.

        `printed` is called with what it prints, `thrown` with each exception that it does not catch.
        """
        self._page = page
        self._printed = printed
        self._thrown = thrown
        self._target: PageTarget | None = None
        self._scripts: list[str] = []
        self._targets: list[Target] = []
        self._running: set[asyncio.Task[None]] = set()
        self._bindings: dict[str, Callable[[str], None]] = {}
        self._frames: dict[str, _Contexts] = {}
        # By the target and the number that the context has there.
        self._contexts: dict[tuple[Target, int], tuple[str, str, str]] = {}
        self._kept: dict[Target, _Kept] = {}
        self._came = asyncio.Event()

    def script(self, source: str) -> None:
        """Have `source` run in the page's own world, in each frame and document, before their scripts.

        Call it before `open`.
        """
        self._scripts.append(source)

    async def run(self, source: str) -> None:
        """Run `source` in the page's own world, in each frame now, and first in each document to come.

        It has been run when this returns, but in frames of other processes, which may hang, as soon as it
        can be. Raises NoAnswerError; put a time-out around it.
        """
        if self._target is None:
            raise NoAnswerError("the page is not asked")
        self._scripts.append(source)
        for target in self._targets:
            if target is not self._target:
                running = asyncio.ensure_future(self._run_in_frame(target, source))
                self._running.add(running)
                running.add_done_callback(self._running.discard)
        await self._target.send("Page.addScriptToEvaluateOnNewDocument", _script(source))

    async def _run_in_frame(self, target: Target, source: str) -> None:
        try:
            await target.send("Page.addScriptToEvaluateOnNewDocument", _script(source))
        except NoAnswerError as error:
            logger.debug("a frame did not run a script: %s", error)

    def bind(self, name: str, heard: Callable[[str], None]) -> None:
        """Give the page's processes a global function `name`; what it is called with is `heard`.

        A `script` has to take it away in each frame before the page sees it. Call it before `open`.
        """
        self._bindings[name] = heard

    @property
    def is_open(self) -> bool:
        """Whether the page is asked and heard."""
        return self._target is not None

    async def open(self) -> None:
        """Ask and hear the page from now on. Raises NoAnswerError; put a time-out around it."""
        self._target = await open_page_target(self._page, self._set_up, self._heard)
        try:
            await self._target.begin()
        except BaseException:
            self._target = None
            raise

    async def close(self) -> None:
        """Ask and hear no more; put a time-out around it."""
        for kept in self._kept.values():
            if kept.letting_go is not None:
                kept.letting_go.cancel()
        self._kept.clear()
        for running in self._running:
            running.cancel()
        target, self._target = self._target, None
        if target is not None:
            await target.close()

    @property
    def main_frame(self) -> str:
        """The id of the page's own frame. Raises NoAnswerError before `open`."""
        if self._target is None:
            raise NoAnswerError("the page is not asked")
        return self._target.id

    @property
    def frames(self) -> list[str]:
        """The ids of the frames that have a document now, the page's own first."""
        main = None if self._target is None else self._target.id
        return sorted(self._frames, key=lambda frame: frame != main)

    async def ask(self, expression: str, *, frame: str | None = None) -> Any:
        """The value of `expression` as JSON, in our world of `frame`'s document, by default the page's own.

        A promise is waited for, and so is the page's next document while it has none. Raises NoAnswerError,
        also when it throws; put a time-out around it.
        """
        target, context = await self._context(frame, ours=True)
        return await _evaluate(target, context, expression, promise=True)

    async def ask_main_world(
        self, expression: str, *, frame: str | None = None, promise: bool = False
    ) -> Any:
        """The same in the page's own world, where `expression` may rely on nothing that a page can replace.

        Whether a `promise` is waited for is to be said: it may be the page's.
        """
        target, context = await self._context(frame, ours=False)
        return await _evaluate(target, context, expression, promise=promise)

    async def _context(self, frame: str | None, *, ours: bool) -> tuple[Target, str]:
        while True:
            contexts = self._frames.get(self.main_frame if frame is None else frame)
            context = None if contexts is None else contexts.ours if ours else contexts.main
            if contexts is not None and context is not None:
                return contexts.target, context
            if frame is not None and frame != self.main_frame:
                raise NoAnswerError("the frame has no document just now")
            self._came.clear()
            await self._came.wait()

    async def ask_element(self, frame: str, function: str) -> Any:
        """What `function`, with the element that holds `frame` as its `this`, returns in our world; as JSON.

        Raises NoAnswerError, also of the page's own frame, which no element holds; put a time-out around it.
        """
        for target, number in [key for key, (_, world, _) in self._contexts.items() if world == "ours"]:
            try:
                owner = await target.send("DOM.getFrameOwner", {"frameId": frame})
                node = {"backendNodeId": owner["backendNodeId"], "executionContextId": number}
                element = await target.send("DOM.resolveNode", node)
            except NoAnswerError:
                continue  # it is in another document
            question = {
                "functionDeclaration": function,
                "objectId": element["object"]["objectId"],
                "returnByValue": True,
            }
            return _value(await target.send("Runtime.callFunctionOn", question))
        raise NoAnswerError("no element holds the frame")

    async def point_away(self) -> None:
        """Have frames in processes of their own know that the pointer has left them.

        The protocol moves it in one process alone, so they still take it for where it was. Raises
        NoAnswerError; put a time-out around it.
        """
        away = {"type": "mouseMoved", "x": -1, "y": -1}
        frames = [target for target in self._targets if target.kind == "iframe"]
        await asyncio.gather(*(frame.send("Input.dispatchMouseEvent", away) for frame in frames))

    def _set_up(self, target: Target) -> Commands:
        if target.kind == "worker":
            return [("Runtime.enable", {})]
        self._targets.append(target)
        scripts = [_script(source) for source in self._scripts]
        bindings = self._bindings if target.kind == "page" else ()
        return [
            ("Page.enable", {}),
            *(("Runtime.addBinding", {"name": name}) for name in bindings),
            *(("Page.addScriptToEvaluateOnNewDocument", script) for script in scripts),
            (
                "Page.addScriptToEvaluateOnNewDocument",
                {"source": "0", "worldName": WORLD, "runImmediately": True},
            ),
            ("Runtime.enable", {}),
            ("Log.enable", {}),
            *([("Page.setInterceptFileChooserDialog", _NO_FILES)] if target.kind == "iframe" else ()),
        ]

    def _heard(self, target: Target, method: str, params: Params) -> None:
        match method:
            case "Runtime.executionContextCreated":
                self._context_created(target, params["context"])
            case "Runtime.executionContextDestroyed":
                self._context_destroyed(target, params["executionContextId"])
            case "Runtime.executionContextsCleared" | "Inspector.detached":
                for of, number in list(self._contexts):
                    if of is target:
                        self._context_destroyed(target, number)
            case "Runtime.consoleAPICalled":
                self._hear_printed(target, params)
            case "Runtime.exceptionThrown":
                self._keeps(target, 1)
                self._thrown(exception_text(params["exceptionDetails"]))
            case "Log.entryAdded":
                entry = params["entry"]
                if entry.get("source") != "worker":
                    self._printed(ConsoleMessage(str(entry.get("level")), (str(entry.get("text")),), (True,)))
            case "Runtime.bindingCalled":
                bound = self._bindings.get(str(params.get("name")))
                if bound is not None:
                    bound(str(params.get("payload")))
            case _:
                pass
        if method == "Inspector.detached":
            if target in self._targets:
                self._targets.remove(target)
            kept = self._kept.pop(target, None)
            if kept is not None and kept.letting_go is not None:
                kept.letting_go.cancel()

    def _context_created(self, target: Target, context: Params) -> None:
        about = context.get("auxData") or {}
        frame = about.get("frameId")
        is_ours = context.get("name") == WORLD and about.get("type") == "isolated"
        if not isinstance(frame, str) or not (is_ours or about.get("isDefault")):
            return
        world = "ours" if is_ours else "main"
        known = self._frames.get(frame)
        if known is None or known.target is not target:
            # Another process has it now.
            known = self._frames[frame] = _Contexts(target)
        setattr(known, world, context["uniqueId"])
        self._came.set()
        self._contexts[target, context["id"]] = frame, world, context["uniqueId"]

    def _context_destroyed(self, target: Target, number: int) -> None:
        frame, world, context = self._contexts.pop((target, number), ("", "", ""))
        known = self._frames.get(frame)
        # A frame's next document may have its worlds before the last one's are gone.
        if known is None or getattr(known, world) != context:
            return
        setattr(known, world, None)
        if known.main is None and known.ours is None:
            del self._frames[frame]

    def _hear_printed(self, target: Target, params: Params) -> None:
        arguments = params.get("args") or []
        self._keeps(target, sum("objectId" in each for each in arguments))
        context = self._contexts.get((target, params.get("executionContextId", 0)))
        frame = context[0] if context is not None else None
        is_pages = (
            context is not None and context[1] == "main" and target is self._target and frame == target.id
        )
        parts, is_text = parts_of(arguments)
        self._printed(ConsoleMessage(str(params.get("type")), parts, is_text, frame, is_pages))

    def _keeps(self, target: Target, objects: int) -> None:
        """The browser keeps something of the target's, so many objects."""
        kept = self._kept.setdefault(target, _Kept())
        kept.objects += objects
        if kept.letting_go is None:
            kept.letting_go = asyncio.ensure_future(self._let_go(target, kept))
        if kept.objects >= MAX_KEPT:
            kept.now.set()

    async def _let_go(self, target: Target, kept: _Kept) -> None:
        """Have the browser and Playwright's driver forget what was printed, their handles of it included."""
        try:
            async with asyncio.timeout(LET_GO_SECONDS):
                await kept.now.wait()
        except TimeoutError:
            pass
        kept.objects, kept.letting_go = 0, None
        kept.now.clear()
        try:
            await target.send("Runtime.discardConsoleEntries")
            await self._page.clear_console_messages()
            await self._page.clear_page_errors()
        except (NoAnswerError, PlaywrightError) as error:
            logger.debug("what the page printed is still kept: %s", error)


def _script(source: str) -> Params:
    return {"source": source, "runImmediately": True}


async def _evaluate(target: Target, context: str, expression: str, *, promise: bool) -> Any:
    question = {
        "expression": expression,
        "uniqueContextId": context,
        "awaitPromise": promise,
        "returnByValue": True,
    }
    return _value(await target.send("Runtime.evaluate", question))


def _value(answer: Params) -> Any:
    if "exceptionDetails" in answer:
        raise NoAnswerError(exception_text(answer["exceptionDetails"]))
    return answer["result"].get("value")
