"""An isolated JavaScript world in a page: evaluates scripts in its frames, receives console and exceptions.

A page is untrusted: it may replace `eval`, `JSON`, `Array.prototype`, `Promise` or `console`. Playwright's
`evaluate` uses some of these, and counts as a user gesture, which allows a page to open windows, file
choosers and full screen. So scripts are evaluated through CDP, without a gesture, in an isolated world: the
same document with its own JavaScript environment. Code that must be in the page's world runs there before the
page's scripts and keeps references to the browser's functions (`add_script`).

Console messages and exceptions come from the browser, not from the page. The browser keeps printed objects
for a console that is opened later, and creates handles for them; both are released.
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
from recording_farm.browser_bot.page.console import ConsoleMessage, argument_texts, exception_text

logger = logging.getLogger(__name__)

WORLD: Final = "recordingFarm"

RELEASE_SECONDS: Final = 1.0
"""After this time printed objects are released; until then they and all that they refer to stay in memory."""

MAX_KEPT: Final = 20
"""With this many printed objects they are released at once."""

_NO_FILES: Final = {"enabled": True, "cancel": True}
"""Cancels file choosers of frames in other processes; `popups` does it for the page itself."""


@dataclass
class _Contexts:
    """The ids of the execution contexts of a frame's document."""

    target: Target
    main: str | None = None
    ours: str | None = None


@dataclass
class _Kept:
    """The printed objects of a target that the browser still keeps."""

    objects: int = 0
    release: asyncio.Task[None] | None = field(default=None, repr=False)
    now: asyncio.Event = field(default_factory=asyncio.Event)


class IsolatedWorld:
    """Evaluates scripts in one page; call `open` before the page is loaded, and `close` at the end."""

    def __init__(
        self,
        page: Page,
        *,
        on_console: Callable[[ConsoleMessage], None] = lambda _: None,
        on_exception: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare the world of `page`.

        `on_console` is called with each console message, `on_exception` with each uncaught exception.
        """
        self._page = page
        self._on_console = on_console
        self._on_exception = on_exception
        self._target: PageTarget | None = None
        self._scripts: list[str] = []
        self._targets: list[Target] = []
        self._running: set[asyncio.Task[None]] = set()
        self._bindings: dict[str, Callable[[str], None]] = {}
        self._frames: dict[str, _Contexts] = {}
        # By target and the context's number there.
        self._contexts: dict[tuple[Target, int], tuple[str, str, str]] = {}
        self._kept: dict[Target, _Kept] = {}
        self._changed = asyncio.Event()

    def add_script(self, source: str) -> None:
        """Run `source` in the page's own world, in each frame and document, before their scripts.

        Call it before `open`.
        """
        self._scripts.append(source)

    async def run(self, source: str) -> None:
        """Run `source` in the page's own world, in all frames now and first in each future document.

        It has run when this returns, except in frames of other processes, which may hang. Raises
        NoAnswerError. Needs a time-out from the caller.
        """
        if self._target is None:
            raise NoAnswerError("not attached to the page")
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
            logger.debug("cannot run a script in a frame: %s", error)

    def bind(self, name: str, on_call: Callable[[str], None]) -> None:
        """Add a global function `name` to the page; `on_call` is called with its argument.

        A script (`add_script`) must delete it in each frame before the page can use it. Call it before
        `open`.
        """
        self._bindings[name] = on_call

    @property
    def is_open(self) -> bool:
        """Whether it is open."""
        return self._target is not None

    async def open(self) -> None:
        """Attach to the page. Raises NoAnswerError. Needs a time-out from the caller."""
        self._target = await open_page_target(self._page, self._set_up, self._on_event)
        try:
            await self._target.begin()
        except BaseException:
            self._target = None
            raise

    async def close(self) -> None:
        """Detach from the page. Needs a time-out from the caller."""
        for kept in self._kept.values():
            if kept.release is not None:
                kept.release.cancel()
        self._kept.clear()
        for running in self._running:
            running.cancel()
        target, self._target = self._target, None
        if target is not None:
            await target.close()

    @property
    def main_frame(self) -> str:
        """The id of the page's main frame. Raises NoAnswerError before `open`."""
        if self._target is None:
            raise NoAnswerError("not attached to the page")
        return self._target.id

    @property
    def frames(self) -> list[str]:
        """The ids of the frames that have a document now, the main frame first."""
        main = None if self._target is None else self._target.id
        return sorted(self._frames, key=lambda frame: frame != main)

    async def ask(self, expression: str, *, frame: str | None = None) -> Any:
        """Evaluate `expression` in our world of `frame`, by default the main frame; return its JSON value.

        Awaits promises, and the next document if the main frame has none. Raises NoAnswerError, also if the
        expression throws. Needs a time-out from the caller.
        """
        target, context = await self._context(frame, ours=True)
        return await _evaluate(target, context, expression, promise=True)

    async def ask_main_world(
        self, expression: str, *, frame: str | None = None, promise: bool = False
    ) -> Any:
        """Like `ask`, but in the page's own world; `expression` must not use anything that a page can
        replace.

        Promises are only awaited with `promise`, because the page may have created them.
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
                raise NoAnswerError("the frame has no document now")
            self._changed.clear()
            await self._changed.wait()

    async def ask_element(self, frame: str, function: str) -> Any:
        """Call `function` in our world with the iframe element of `frame` as `this`; return its JSON value.

        Raises NoAnswerError, also for the main frame, which has no element. Needs a time-out from the caller.
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
        raise NoAnswerError("the frame has no element")

    async def point_away(self) -> None:
        """Notify frames in other processes that the pointer has left them.

        The protocol moves the pointer in one process only. Raises NoAnswerError. Needs a time-out from the
        caller.
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

    def _on_event(self, target: Target, method: str, params: Params) -> None:
        match method:
            case "Runtime.executionContextCreated":
                self._context_created(target, params["context"])
            case "Runtime.executionContextDestroyed":
                self._context_destroyed(target, params["executionContextId"])
            case "Runtime.executionContextsCleared" | "Inspector.detached":
                for owner, number in list(self._contexts):
                    if owner is target:
                        self._context_destroyed(target, number)
            case "Runtime.consoleAPICalled":
                self._console_called(target, params)
            case "Runtime.exceptionThrown":
                self._keep(target, 1)
                self._on_exception(exception_text(params["exceptionDetails"]))
            case "Log.entryAdded":
                entry = params["entry"]
                if entry.get("source") != "worker":
                    self._on_console(
                        ConsoleMessage(str(entry.get("level")), (str(entry.get("text")),), (True,))
                    )
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
            if kept is not None and kept.release is not None:
                kept.release.cancel()

    def _context_created(self, target: Target, context: Params) -> None:
        about = context.get("auxData") or {}
        frame = about.get("frameId")
        is_ours = context.get("name") == WORLD and about.get("type") == "isolated"
        if not isinstance(frame, str) or not (is_ours or about.get("isDefault")):
            return
        world = "ours" if is_ours else "main"
        known = self._frames.get(frame)
        if known is None or known.target is not target:
            # The frame has moved to another process.
            known = self._frames[frame] = _Contexts(target)
        setattr(known, world, context["uniqueId"])
        self._changed.set()
        self._contexts[target, context["id"]] = frame, world, context["uniqueId"]

    def _context_destroyed(self, target: Target, number: int) -> None:
        frame, world, context = self._contexts.pop((target, number), ("", "", ""))
        known = self._frames.get(frame)
        # A frame's next document may have its contexts before the last one's are destroyed.
        if known is None or getattr(known, world) != context:
            return
        setattr(known, world, None)
        if known.main is None and known.ours is None:
            del self._frames[frame]

    def _console_called(self, target: Target, params: Params) -> None:
        arguments = params.get("args") or []
        self._keep(target, sum("objectId" in each for each in arguments))
        context = self._contexts.get((target, params.get("executionContextId", 0)))
        frame = context[0] if context is not None else None
        is_pages = (
            context is not None and context[1] == "main" and target is self._target and frame == target.id
        )
        parts, is_text = argument_texts(arguments)
        self._on_console(ConsoleMessage(str(params.get("type")), parts, is_text, frame, is_pages))

    def _keep(self, target: Target, objects: int) -> None:
        """Count printed objects that the browser keeps, and schedule their release."""
        kept = self._kept.setdefault(target, _Kept())
        kept.objects += objects
        if kept.release is None:
            kept.release = asyncio.ensure_future(self._release(target, kept))
        if kept.objects >= MAX_KEPT:
            kept.now.set()

    async def _release(self, target: Target, kept: _Kept) -> None:
        """Make the browser and Playwright's driver release printed objects and their handles."""
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await kept.now.wait()
        except TimeoutError:
            pass
        kept.objects, kept.release = 0, None
        kept.now.clear()
        try:
            await target.send("Runtime.discardConsoleEntries")
            await self._page.clear_console_messages()
            await self._page.clear_page_errors()
        except (NoAnswerError, PlaywrightError) as error:
            logger.debug("cannot release printed objects: %s", error)


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
