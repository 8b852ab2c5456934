"""The recorder's side of the recording SDK of Dyte and RealtimeKit: a WebSocket and flags on the window.

The SDK connects to `ws://localhost:8080/ws` and signals there that recording may start. A script in the page
emulates this WebSocket, so that recordings on one machine need no port. The SDK signals the end of the
recording only through its flags.

The emulation is limited to the main frame, because other frames may belong to other sites, such as ads. The
page's messages go through a CDP binding, which is removed from each frame before the page's first script, so
that no script of the page can call it.
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
"""Type of messages whose payload goes into the recording; participants broadcast them."""

TEXTS_OVER: Final = "CLOSE_TRANSPORT"
"""The payload of the last such message in a recording."""

PERIOD: Final = 1.0
"""Interval of polling the flags (s)."""

GONE_SECONDS: Final = 10.0
"""A page without its SDK for this time is over; a reload removes the SDK for a moment."""

_ANSWER_TIMEOUT: Final = 5.0

KEEP_ALIVE_SECONDS: Final = 10.0
"""Interval of keep-alive pings; the SDK closes after 30 s without one."""

MAX_MESSAGE: Final = 64 * 1024
"""Maximum length of a message; longer ones are ignored, recording does not need them."""

MAX_MESSAGES: Final = 1000
"""Maximum messages in a second; further ones are dropped."""

# The SDK's flags on the window, under both of its names, as digits. A page that opened the socket by itself
# only has the trigger. The script uses nothing that a page can replace.
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
  const send = globalThis[NAME];
  delete globalThis[NAME];
  if (self !== top || typeof send !== "function") return;

  // References to the browser's own functions, because the page may replace them.
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

  let since = 0, sent = 0;
  const report = (kind, words) => {
    const present = now(clock);
    if (present - since > 1000) {
      since = present;
      sent = 0;
    }
    sent += 1;
    if (sent <= MAX) send(`${kind} ${words}`);
  };

  // Behaves like the server of a recorder; "2" and "3" are ping and pong.
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
      report("connected", "");
      dispatch(this, new MakeEvent("open"));
      const ping = { __proto__: null, data: "2", origin: "ws://localhost:8080" };
      const beat = () => dispatch(this, new MakeMessage("message", ping));
      this.#beating = each(beat, KEEP_ALIVE);
      beat();
    }
    send(message) {
      if (this.readyState === 0) throw new MakeError("Still in CONNECTING state.", "InvalidStateError");
      if (this.readyState !== 1 || typeof message !== "string") return;
      if (message !== "3" && message.length <= MAX_LENGTH) report("message", message);
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
  // So that `instanceof WebSocket` holds.
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
    """Return the text that a message adds to the recording, as JSON if it is not a string; None if none."""
    if message.get("type") != TEXT or "payload" not in message:
        return None
    payload = message["payload"]
    return payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)


class RecordingSdk:
    """Receives the messages of a page's recording SDK, if it has one."""

    def __init__(self, world: IsolatedWorld, on_message: Callable[[dict[str, Any]], None]) -> None:
        """Emulate the server in the page of `world`, which must not be open yet.

        `on_message` is called with each message of the page, an object with a `type`.
        """
        self._world = world
        self._on_message = on_message
        name = f"recordingFarm{secrets.token_hex(8)}"
        values = (name, KEEP_ALIVE_SECONDS * 1000, MAX_MESSAGE, MAX_MESSAGES)
        world.bind(name, self._receive)
        world.add_script(f"{_SOCKET}({', '.join(map(json.dumps, values))})")
        self.connected = asyncio.Event()
        """Set once the page has connected, so it has the SDK."""

    async def wait_until_over(self, documents: Documents) -> None:
        """Wait until the flags indicate that the recording is over; `documents` are the page's."""
        detector = EndDetector()
        loop = asyncio.get_running_loop()
        while True:
            document = documents.last.number
            state = await self._state()
            # Flags that arrive during a navigation may belong to either document.
            if document == documents.last.number and detector.is_over(state, document, loop.time()):
                break
            # There is no event for it.
            await asyncio.sleep(PERIOD)
        logger.info("the page's recording SDK signals the end")

    async def is_announced(self) -> bool:
        """Whether the flags show that the page has the SDK; they may be set before its socket connects."""
        state = await self._state()
        return state is not None and (state["announced"] or state["present"] or state["meeting"])

    async def _state(self) -> dict[str, bool] | None:
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                answer = await self._world.ask_main_world(_STATE)
        except (NoAnswerError, TimeoutError):
            # The page is navigating or hangs, which is handled elsewhere.
            return None
        return parse_flags(answer)

    def _receive(self, payload: str) -> None:
        kind, _, message = payload.partition(" ")
        if kind == "connected" and not self.connected.is_set():
            logger.info("the page's recording SDK has connected")
            self.connected.set()
        elif kind == "message":
            self._parse(message)

    def _parse(self, message: str) -> None:
        """Parse a message of the page; a recorder ignores everything but objects."""
        try:
            content = json.loads(message)
        except (ValueError, RecursionError):
            # Other frames of the SDK, which recording does not need.
            return
        if isinstance(content, dict):
            self._on_message(content)


def parse_flags(answer: object) -> dict[str, bool] | None:
    """Parse the flags in a page's answer; None if it is malformed."""
    if not isinstance(answer, str) or not re.fullmatch("[01]{4}", answer):
        return None
    return dict(zip(_FLAGS, (digit == "1" for digit in answer), strict=True))


class EndDetector:
    """Decides from the SDK's flags whether the recording is over."""

    def __init__(self) -> None:
        """Start without having seen the SDK."""
        self._document: int | None = None
        """The last document that had the SDK's meeting."""
        self._polls_without = 0
        self._gone_since: float | None = None

    def is_over(self, state: Mapping[str, bool] | None, document: int, present: float) -> bool:
        """Whether the recording is over; `state` are the flags of the page's `document` at `present` (s).

        `document` is its number. `state` is None if the page did not answer.
        """
        if state is None:
            return False
        if state.get("over"):
            return True
        if state.get("meeting"):
            self._document, self._polls_without, self._gone_since = document, 0, None
            return False
        if self._document is None:
            return False
        if document == self._document:
            if state.get("present"):
                # The SDK has removed its object: it has left the room.
                return True
            if state.get("announced"):
                # `cleanup()` removes everything but the trigger. A page may initialize again right after it,
                # as in React's strict mode, so one poll is not enough.
                self._polls_without += 1
                return self._polls_without > 1
        elif state.get("present"):
            # After a reload the SDK has no meeting yet.
            self._gone_since = None
            return False
        self._gone_since = present if self._gone_since is None else self._gone_since
        return present - self._gone_since >= GONE_SECONDS
