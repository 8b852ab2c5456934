"""Adds CSS to a page: to all frames and documents, and to their shadow roots.

It uses adopted style sheets (https://drafts.csswg.org/cssom/#dom-documentorshadowroot-adoptedstylesheets):
the content security policy of many pages forbids style elements, and adopted sheets do not change the content
of a shadow root. A script in the page's own world, which runs before the page's scripts, wraps the functions
that create shadow roots, closed ones too, and the setters that replace adopted sheets. It keeps references to
the browser's own functions.
"""

import asyncio
import json
import logging
import re
import secrets
from collections.abc import Sequence
from typing import Final

from recording_farm.browser_bot.errors import NoAnswerError
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT: Final = 3.0
"""Seconds for a frame to answer; a frame that hangs does not change on screen anyway."""

# The selectors of a sheet's rules, each as it is and without pseudo-elements (::before) and transient
# pseudo-classes (:hover). If the second form matches nothing, the rule has no effect.
_SELECTORS: Final = r"""
((CSS) => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(CSS);
  const bare = (_, place, text) => place === 0 || " >+~,(".includes(text[place - 1]) ? "*" : "";
  const lasting = (selector) => selector.includes(":host") ? "*" : selector
    .replace(/::?(?:before|after|first-line|first-letter)\b|::[\w-]+(?:\([^)]*\))?/g, bare)
    .replace(/:(?:hover|focus|focus-visible|focus-within|active|visited|link)\b/g, bare);
  const found = [];
  const look = (rules) => {
    for (const rule of rules) {
      if (rule instanceof CSSStyleRule) found.push([rule.selectorText, lasting(rule.selectorText)]);
      else if (rule.cssRules && !(rule instanceof CSSKeyframesRule)) look(rule.cssRules);
    }
  };
  look(sheet.cssRules);
  return found;
})
"""
_HOOK: Final = r"""
((NAME) => {
  "use strict";
  if (Object.hasOwn(globalThis, NAME)) return globalThis[NAME]("restart");

  // References to the browser's own functions, because the page may replace them. Code that runs later must
  // not use spread, `for of` or array methods: they use prototypes that the page can change.
  const { apply, construct, defineProperty, getOwnPropertyDescriptor } = Reflect;
  const getter = (type, name) => {
    const { get } = getOwnPropertyDescriptor(type.prototype, name);
    return (object) => apply(get, object, []);
  };
  const method = (type, name) => {
    const { value } = getOwnPropertyDescriptor(type.prototype, name);
    return (object, ...parameters) => apply(value, object, parameters);
  };
  const { get: shown } = getOwnPropertyDescriptor(globalThis, "document");
  const Sheet = CSSStyleSheet, replace = method(CSSStyleSheet, "replaceSync");
  const push = method(Array, "push");
  const openRoot = getter(Element, "shadowRoot");
  const kept = new WeakMap(), keep = method(WeakMap, "set"), closedRoot = method(WeakMap, "get");
  const finders = {
    __proto__: null,
    document: [method(Document, "querySelectorAll"), method(Document, "querySelector")],
    root: [method(DocumentFragment, "querySelectorAll"), method(DocumentFragment, "querySelector")],
  };
  const sheetsOf = {
    __proto__: null,
    document: getter(Document, "adoptedStyleSheets"),
    root: getter(ShadowRoot, "adoptedStyleSheets"),
  };
  const count = getter(NodeList, "length"), item = method(NodeList, "item");
  const listen = method(EventTarget, "addEventListener");

  let page = null, sheet = null, css = "";
  const begin = () => {
    page = apply(shown, globalThis, []);
    sheet = construct(Sheet, []);
    replace(sheet, css);
    adopt(page, "document");
    listen(page, "DOMContentLoaded", lookForRoots);
  };
  const adopt = (where, kind) => {
    try {
      const sheets = sheetsOf[kind](where);
      for (let i = 0; i < sheets.length; i++) if (sheets[i] === sheet) return;
      push(sheets, sheet);
    } catch {
      // The root belongs to another document, which has its own sheet.
    }
  };

  const watch = (object, name, what, after) => {
    const there = getOwnPropertyDescriptor(object, name);
    const watched = new Proxy(there[what], {
      apply(target, self, parameters) {
        const result = apply(target, self, parameters);
        after(self, result);
        return result;
      },
    });
    defineProperty(object, name, { ...there, [what]: watched });
  };
  watch(Element.prototype, "attachShadow", "value", (host, root) => {
    keep(kept, host, root);
    adopt(root, "root");
  });
  watch(Document.prototype, "adoptedStyleSheets", "set", (each) => adopt(each, "document"));
  watch(ShadowRoot.prototype, "adoptedStyleSheets", "set", (each) => adopt(each, "root"));

  // All shadow roots, including declarative ones in the HTML, for which no function is called.
  const eachRoot = (where, kind, act) => {
    const elements = finders[kind][0](where, "*");
    for (let i = 0; i < count(elements); i++) {
      const host = item(elements, i);
      const root = openRoot(host) ?? closedRoot(kept, host);
      if (!root) continue;
      act(root);
      eachRoot(root, "root", act);
    }
  };
  const lookForRoots = () => eachRoot(page, "document", (root) => adopt(root, "root"));
  for (const type of [Element, ShadowRoot]) {
    if (type.prototype.setHTMLUnsafe) watch(type.prototype, "setHTMLUnsafe", "value", lookForRoots);
  }

  const finds = (where, kind, selector) => {
    try {
      return finders[kind][1](where, selector) !== null;
    } catch {
      return true; // a selector that is only valid in a style sheet
    }
  };
  const effects = (selectors) => {
    let answer = "";
    for (let i = 0; i < selectors.length; i++) {
      let found = finds(page, "document", selectors[i]);
      eachRoot(page, "document", (root) => { found ||= finds(root, "root", selectors[i]); });
      answer += found ? "1" : "0";
    }
    return answer;
  };

  begin();
  defineProperty(globalThis, NAME, {
    value: (what, of) => {
      if (what === "effects") return effects(of);
      if (what === "restart") {
        if (page !== apply(shown, globalThis, [])) begin();
        return "";
      }
      css = of;
      replace(sheet, css);
      lookForRoots();
      return "";
    },
  });
})
"""


class AddedCss:
    """CSS rules added to the page of an isolated world."""

    def __init__(self, world: IsolatedWorld, css: str = "", *, from_start: bool = False) -> None:
        """Prepare `css` for the page of `world`, which must not be open yet; see `on` and `from_start`."""
        self._world = world
        self._css = css
        self._is_on = from_start
        self._name = f"recordingFarm{secrets.token_hex(8)}"
        world.add_script(f"{_HOOK}({json.dumps(self._name)})")
        if from_start:
            world.add_script(self._call("css", css))

    async def on(self) -> None:
        """Apply the rules, in future frames and documents too. Raises NoAnswerError."""
        if self._is_on:
            await self.put(self._css)
            return
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await self._world.run(self._call("css", self._css))
        self._is_on = True

    async def off(self) -> None:
        """Remove the rules from the current documents."""
        if self._is_on:
            await self.put("")

    async def put(self, css: str) -> None:
        """Replace the rules with `css` in the current documents."""
        await self._call_frames("css", css)

    async def unmatched(self) -> list[str] | None:
        """Return the selectors of its rules that match nothing on the page now; None if it has no valid rule.

        Raises NoAnswerError.
        """
        async with asyncio.timeout(ANSWER_TIMEOUT):
            selectors = await self._world.ask(f"{_SELECTORS}({json.dumps(self._css)})")
        if not selectors:
            return None
        matched = await self.matches([lasting for _, lasting in selectors])
        return [selector for (selector, _), found in zip(selectors, matched, strict=True) if not found]

    async def matches(self, selectors: Sequence[str]) -> list[bool]:
        """Whether each of `selectors` matches anything on the page now, in any frame or shadow root."""
        return combine_answers(len(selectors), await self._call_frames("effects", list(selectors)))

    def _call(self, command: str, value: object) -> str:
        arguments = f"{json.dumps(command)}, {json.dumps(value)}"
        return f"typeof {self._name} === 'function' ? {self._name}({arguments}) : ''"

    async def _call_frames(self, command: str, value: object) -> list[object]:
        """Call all frames concurrently and return their answers."""
        calls = (self._call_frame(frame, command, value) for frame in self._world.frames)
        return list(await asyncio.gather(*calls))

    async def _call_frame(self, frame: str, command: str, value: object) -> object:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await self._world.ask_main_world(self._call(command, value), frame=frame)
        except (NoAnswerError, TimeoutError) as error:
            logger.debug("cannot change the CSS of a frame: %r", error)
            return None


def combine_answers(count: int, answers: Sequence[object]) -> list[bool]:
    """Whether each of `count` selectors matched in any frame; invalid answers of a page are ignored."""
    digits = [each for each in answers if isinstance(each, str) and re.fullmatch(f"[01]{{{count}}}", each)]
    return [any(each[index] == "1" for each in digits) for index in range(count)]
