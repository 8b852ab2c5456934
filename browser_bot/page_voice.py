"""What a page itself says to its recorder, on its console and by the socket of the recording SDKs.

A page may hold frames of strangers: an advertisement, a page that participants share. Nothing in what the
browser's driver tells of a printed text or of a socket says from which frame it came. And what the driver
calls a binding is a function in every frame, with which a stranger can end the driver. So a script stands in
the page's main frame, and nowhere else, and is asked there for what was said.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Collection
from typing import Final

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS: Final = 10.0
"""Between two signs of life; the SDK closes after 30 s without one."""

LONGEST_MESSAGE: Final = 64 * 1024
"""Characters of a message; longer ones are for servers that do more than recording."""

_PAUSE: Final = 0.05
"""Seconds until a page is asked again that is just being loaded."""

_SCRIPT: Final = r"""
((NAME, TEXTS, HAS_SOCKET, KEEP_ALIVE, LONGEST) => {
  "use strict";
  const MOST = 1000; // messages that are kept until somebody asks
  if (self !== top) return;
  const said = [];
  let wake = () => {};
  const say = (kind, text = "") => {
    if (said.length < MOST) said.push([kind, text]);
    wake();
  };
  const next = async () => {
    if (said.length === 0) await new Promise((resolve) => { wake = resolve; });
    return JSON.stringify(said.splice(0));
  };
  Object.defineProperty(globalThis, NAME, { value: next });

  for (const method of TEXTS.length ? ["log", "info", "debug", "warn", "error"] : []) {
    console[method] = new Proxy(console[method], {
      apply(target, self, printed) {
        const text = printed.length === 1 && typeof printed[0] === "string" ? printed[0].trim() : "";
        // One that ends with a colon has more behind it.
        const isSignal = (each) => each === text || (each.endsWith(":") && text.startsWith(each));
        if (TEXTS.some(isSignal)) say("console", text.slice(0, LONGEST));
        return Reflect.apply(target, self, printed);
      },
    });
  }

  // Answers as a recorder's server would; "2" and "3" are its ping and pong.
  class Socket extends EventTarget {
    url = ""; onopen = null; onmessage = null; onclose = null; onerror = null;
    readyState = 0; binaryType = "blob"; bufferedAmount = 0; extensions = ""; protocol = "";
    #beating = 0;
    constructor(url) {
      super();
      this.url = url;
      for (const kind of ["open", "message", "close", "error"]) {
        this.addEventListener(kind, (event) => this[`on${kind}`]?.(event));
      }
      setTimeout(() => this.#open());
    }
    #open() {
      if (this.readyState !== 0) return;
      this.readyState = 1;
      say("connected");
      this.dispatchEvent(new Event("open"));
      const ping = { data: "2", origin: "ws://localhost:8080" };
      const beat = () => this.dispatchEvent(new MessageEvent("message", ping));
      this.#beating = setInterval(beat, KEEP_ALIVE);
      beat();
    }
    send(message) {
      if (this.readyState === 0) throw new DOMException("Still in CONNECTING state.", "InvalidStateError");
      if (this.readyState !== 1 || typeof message !== "string") return;
      if (message !== "3" && message.length <= LONGEST) say("message", message);
    }
    close(code = 1005, reason = "") {
      if (this.readyState > 1) return;
      this.readyState = 2;
      clearInterval(this.#beating);
      setTimeout(() => {
        this.readyState = 3;
        this.dispatchEvent(new CloseEvent("close", { code, reason, wasClean: true }));
      });
    }
  }
  if (HAS_SOCKET) {
    // So that it is a WebSocket to whoever asks.
    Object.setPrototypeOf(Socket.prototype, WebSocket.prototype);
    globalThis.WebSocket = new Proxy(WebSocket, {
      construct(target, parameters, newTarget) {
        const isOurs = /^ws:\/\/localhost:8080\/ws\/?(\?.*)?$/i.test(String(parameters[0]));
        return isOurs ? new Socket(String(parameters[0])) : Reflect.construct(target, parameters, newTarget);
      },
    });
  }
})
"""


class PageVoice:
    """Hears what the page says; `listen` before it is opened, `close` when it is heard no more."""

    def __init__(
        self, page: Page, texts: Collection[str], has_socket: bool, heard: Callable[[str, str], None]
    ) -> None:
        """Listen to `page`.

        `heard` is called with "console" and the text when it prints one of `texts` and nothing else with it,
        or what begins with one that ends with a colon; if it `has_socket`, also with "connected" and "", and
        with "message" and what it sends.
        """
        self._page = page
        self._heard = heard
        self._name = f"__recordingFarm{secrets.token_hex(8)}"
        values = (self._name, list(texts), has_socket, KEEP_ALIVE_SECONDS * 1000, LONGEST_MESSAGE)
        self._script = f"{_SCRIPT}({', '.join(map(json.dumps, values))})"
        self._hearing: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """Listen from now on. Raises PlaywrightError; put a time-out around it."""
        await self._page.add_init_script(self._script)
        self._hearing = asyncio.create_task(self._hear())

    def close(self) -> None:
        """Listen no more."""
        if self._hearing is not None:
            self._hearing.cancel()

    async def _hear(self) -> None:
        while not self._page.is_closed():
            try:
                said = await self._page.evaluate(f"globalThis[{json.dumps(self._name)}]?.()")
            except PlaywrightError as error:
                # It goes to another page, or away, which others notice.
                logger.debug("the page could not be listened to: %s", error.message)
                said = None
            for kind, text in _read(said):
                self._heard(kind, text)
            if said is None:
                await asyncio.sleep(_PAUSE)


def _read(said: object) -> list[tuple[str, str]]:
    """What was said, if it is what the script says: a page may have put something else in its place."""
    try:
        content = json.loads(said) if isinstance(said, str) else []
    except (ValueError, RecursionError):
        return []
    if not isinstance(content, list):
        return []
    return [
        (each[0], each[1])
        for each in content
        if isinstance(each, list) and len(each) == 2 and all(isinstance(part, str) for part in each)
    ]
