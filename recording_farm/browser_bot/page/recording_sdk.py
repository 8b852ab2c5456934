"""The recording SDK of Dyte and RealtimeKit, seen from the recorder's side: a socket and flags on the window.

The SDK connects to `ws://localhost:8080/ws` and says there that recording may start. It is answered in the
page itself, so many recordings share a machine without a port. That the recording is over the SDK tells by
its flags alone.

Only the page's main frame is answered: a frame in it may be a stranger's, an advertisement's for instance.
What the page says goes through a function that the browser makes for us and that no script of the page can
get at: it is taken out of each frame before their first script.
"""

import asyncio
import json
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from recording_farm.browser_bot.errors import NoAnswerError
from recording_farm.browser_bot.page.documents import Documents
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld

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

KEEP_ALIVE_SECONDS: Final = 10.0
"""Between two signs of life; the SDK closes after 30 s without one."""

MAX_MESSAGE: Final = 64 * 1024
"""Characters of a message; longer ones are for servers that do more than recording."""

MAX_MESSAGES: Final = 1000
"""That are heard in a second."""

# What the SDK leaves on the window, under both its names, as digits. A page that opened the socket by itself
# has the trigger alone. Nothing in it goes through what a page can replace.
_STATE: Final = """
(() => {
  try {
    const dyte = window.triggerDyteRecording, realtimeKit = window.triggerRealtimeKitRecording;
    return `${+(dyte === true || realtimeKit === true)}${
      +(window.dyteRecordingSdk === true || window.realtimeKitRecordingSdk === true)}${
      +(!!window.dyteRecording || !!window.realtimeKitRecording)}${
      +(dyte === false || realtimeKit === false)}`;
  } catch {
    return "";
  }
})()
"""
_FLAGS: Final = ("announced", "present", "meeting", "over")

_SOCKET: Final = r"""
((NAME, KEEP_ALIVE, MAX_LENGTH, MAX) => {
  "use strict";
  const tell = globalThis[NAME];
  delete globalThis[NAME];
  if (self !== top || typeof tell !== "function") return;

  // The browser's own functions, whatever the page puts in their place later.
  const { apply, construct, defineProperty, getOwnPropertyDescriptor, setPrototypeOf } = Reflect;
  const method = (type, name) => {
    const { value } = getOwnPropertyDescriptor(type.prototype, name);
    return (object, ...parameters) => apply(value, object, parameters);
  };
  const matches = method(RegExp, "exec"), text = String, clock = performance;
  const listen = method(EventTarget, "addEventListener"), dispatch = method(EventTarget, "dispatchEvent");
  const now = method(Performance, "now");
  const MakeEvent = Event, MakeMessage = MessageEvent, MakeClose = CloseEvent, MakeError = DOMException;
  const later = setTimeout, each = setInterval, never = clearInterval;
  const Native = WebSocket;

  let since = 0, told = 0;
  const say = (kind, words) => {
    const present = now(clock);
    if (present - since > 1000) {
      since = present;
      told = 0;
    }
    told += 1;
    if (told <= MAX) tell(`${kind} ${words}`);
  };

  // Answers as a recorder's server would; "2" and "3" are its ping and pong.
  class Socket extends EventTarget {
    url = ""; onopen = null; onmessage = null; onclose = null; onerror = null;
    readyState = 0; binaryType = "blob"; bufferedAmount = 0; extensions = ""; protocol = "";
    #beating = 0;
    constructor(url) {
      super();
      this.url = url;
      listen(this, "open", (event) => this.onopen?.(event));
      listen(this, "message", (event) => this.onmessage?.(event));
      listen(this, "close", (event) => this.onclose?.(event));
      later(() => this.#open());
    }
    #open() {
      if (this.readyState !== 0) return;
      this.readyState = 1;
      say("connected", "");
      dispatch(this, new MakeEvent("open"));
      const ping = { __proto__: null, data: "2", origin: "ws://localhost:8080" };
      const beat = () => dispatch(this, new MakeMessage("message", ping));
      this.#beating = each(beat, KEEP_ALIVE);
      beat();
    }
    send(message) {
      if (this.readyState === 0) throw new MakeError("Still in CONNECTING state.", "InvalidStateError");
      if (this.readyState !== 1 || typeof message !== "string") return;
      if (message !== "3" && message.length <= MAX_LENGTH) say("message", message);
    }
    close(code = 1005, reason = "") {
      if (this.readyState > 1) return;
      this.readyState = 2;
      never(this.#beating);
      later(() => {
        this.readyState = 3;
        dispatch(this, new MakeClose("close", { __proto__: null, code, reason, wasClean: true }));
      });
    }
  }
  // So that it is a WebSocket to whoever asks.
  setPrototypeOf(Socket.prototype, Native.prototype);
  const ours = /^ws:\/\/localhost:8080\/ws\/?(\?.*)?$/i;
  const Answered = new Proxy(Native, {
    construct(target, parameters, newTarget) {
      const url = parameters.length > 0 ? text(parameters[0]) : "";
      return matches(ours, url) !== null ? new Socket(url) : construct(target, parameters, newTarget);
    },
  });
  const there = getOwnPropertyDescriptor(globalThis, "WebSocket");
  defineProperty(globalThis, "WebSocket", { ...there, value: Answered });
  defineProperty(Native.prototype, "constructor", { value: Answered });
})
"""


def timed_text(message: dict[str, Any]) -> str | None:
    """What a message has put into the recording; None if nothing. What is no text goes as JSON."""
    if message.get("type") != TEXT or "payload" not in message:
        return None
    payload = message["payload"]
    return payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)


class RecordingSdk:
    """What the recording SDK of a page says, if it has one."""

    def __init__(self, world: IsolatedWorld, heard: Callable[[dict[str, Any]], None]) -> None:
        """Answer the page of `world`, which is not open yet.

        `heard` is called with each message of the page's: an object with a `type`.
        """
        self._world = world
        self._heard = heard
        name = f"recordingFarm{secrets.token_hex(8)}"
        values = (name, KEEP_ALIVE_SECONDS * 1000, MAX_MESSAGE, MAX_MESSAGES)
        world.bind(name, self._told)
        world.script(f"{_SOCKET}({', '.join(map(json.dumps, values))})")
        self.connected = asyncio.Event()
        """Set once the page has connected: it has the SDK."""

    async def until_over(self, documents: Documents) -> None:
        """Wait until the flags say that the recording is over; `documents` are the page's."""
        watch = FlagWatch()
        loop = asyncio.get_running_loop()
        while True:
            document = documents.last.number
            state = await self._state()
            # Of flags that came while the page went elsewhere nobody knows whose they are.
            if document == documents.last.number and watch.is_over(state, document, loop.time()):
                break
            # The page has no event for it.
            await asyncio.sleep(PERIOD)
        logger.info("the page's recording SDK says that it is over")

    async def is_announced(self) -> bool:
        """Whether the page has the SDK by its flags, which may come before its socket."""
        state = await self._state()
        return state is not None and (state["announced"] or state["present"] or state["meeting"])

    async def _state(self) -> dict[str, bool] | None:
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                answer = await self._world.ask_main_world(_STATE)
        except (NoAnswerError, TimeoutError):
            # It goes away or hangs, which others notice.
            return None
        return flags_in(answer)

    def _told(self, said: str) -> None:
        kind, _, message = said.partition(" ")
        if kind == "connected" and not self.connected.is_set():
            logger.info("the page's recording SDK has connected")
            self.connected.set()
        elif kind == "message":
            self._hear(message)

    def _hear(self, message: str) -> None:
        """Take a message of the page's; what is no object says nothing to a recorder."""
        try:
            content = json.loads(message)
        except (ValueError, RecursionError):
            # The SDK's other frames are for servers that do more than recording.
            return
        if isinstance(content, dict):
            self._heard(content)


def flags_in(answer: object) -> dict[str, bool] | None:
    """The flags that a page answered with; None if it is no such answer."""
    if not isinstance(answer, str) or not re.fullmatch("[01]{4}", answer):
        return None
    return dict(zip(_FLAGS, (digit == "1" for digit in answer), strict=True))


class FlagWatch:
    """Decides from the SDK's flags whether the recording is over."""

    def __init__(self) -> None:
        """Begin with a page that has shown nothing."""
        self._document: int | None = None
        """The last one that had the SDK's meeting."""
        self._looks_without = 0
        self._gone_since: float | None = None

    def is_over(self, state: Mapping[str, bool] | None, document: int, present: float) -> bool:
        """Whether it is over, by the flags that a document of the page had at the time `present` (s).

        The documents of a page are numbered. None for the flags if it said none.
        """
        if state is None:
            return False
        if state.get("over"):
            return True
        if state.get("meeting"):
            self._document, self._looks_without, self._gone_since = document, 0, None
            return False
        if self._document is None:
            return False
        if document == self._document:
            if state.get("present"):
                # The SDK has taken its object away: it has left the room.
                return True
            if state.get("announced"):
                # `cleanup()` takes away all but the trigger. A page may begin anew right after it, as with
                # React's strict mode; so it is looked at twice.
                self._looks_without += 1
                return self._looks_without > 1
        elif state.get("present"):
            # Loaded anew, and the SDK has no meeting yet.
            self._gone_since = None
            return False
        self._gone_since = present if self._gone_since is None else self._gone_since
        return present - self._gone_since >= GONE_SECONDS
