"""CSS added to a page: in every frame and document of it, and in their shadow roots.

A sheet that is adopted (https://drafts.csswg.org/cssom/#dom-documentorshadowroot-adoptedstylesheets),
because style elements are what many a page's policy forbids, and only of adopted sheets a shadow root need
not be changed. A script in the page's own world, which runs before the page's first one, is there when
shadow roots are made, closed ones too, and when a page gives a root other sheets than it had. It keeps the
browser's own functions.
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
"""Seconds for a frame to answer; one that hangs shows nothing else in any case."""

# The selectors of a sheet's rules, as they are and without what changes while a page is looked at (:hover)
# and what is no element (::before): whether they find anything then tells whether a rule has an effect.
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
  if (Object.hasOwn(globalThis, NAME)) return globalThis[NAME]("anew");

  // The browser's own functions, whatever the page puts in their place later. What runs later has no spread,
  // no `for of` and no methods of arrays: they go through the page's prototypes.
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
      // Another document's, which has a sheet of its own.
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

  // Each root, also those that come with the document's text and that nobody has called a function for.
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
      return true; // a selector that only a sheet understands
    }
  };
  const effects = (selectors) => {
    let said = "";
    for (let i = 0; i < selectors.length; i++) {
      let found = finds(page, "document", selectors[i]);
      eachRoot(page, "document", (root) => { found ||= finds(root, "root", selectors[i]); });
      said += found ? "1" : "0";
    }
    return said;
  };

  begin();
  defineProperty(globalThis, NAME, {
    value: (what, of) => {
      if (what === "effects") return effects(of);
      if (what === "anew") {
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
    """Rules on the page of a world."""

    def __init__(self, world: IsolatedWorld, css: str = "", *, from_start: bool = False) -> None:
        """Add `css` to the page of `world`, which is not open yet; it is `on` later, or `from_start`."""
        self._world = world
        self._css = css
        self._is_on = from_start
        self._name = f"recordingFarm{secrets.token_hex(8)}"
        world.script(f"{_HOOK}({json.dumps(self._name)})")
        if from_start:
            world.script(self._told("css", css))

    async def on(self) -> None:
        """Have the rules hold, in the frames and documents to come too. Raises NoAnswerError."""
        if self._is_on:
            await self.put(self._css)
            return
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await self._world.run(self._told("css", self._css))
        self._is_on = True

    async def off(self) -> None:
        """Have them hold no more in the documents that are shown now."""
        if self._is_on:
            await self.put("")

    async def put(self, css: str) -> None:
        """Have `css` hold instead, in the documents that are shown now."""
        await self._tell_frames("css", css)

    async def idle(self) -> list[str] | None:
        """The selectors of its rules that find nothing on the page just now; None if it has no rule at all.

        Raises NoAnswerError.
        """
        async with asyncio.timeout(ANSWER_TIMEOUT):
            selectors = await self._world.ask(f"{_SELECTORS}({json.dumps(self._css)})")
        if not selectors:
            return None
        found = await self.finds([lasting for _, lasting in selectors])
        return [selector for (selector, _), finds in zip(selectors, found, strict=True) if not finds]

    async def finds(self, selectors: Sequence[str]) -> list[bool]:
        """Which of `selectors` find anything on the page just now, in whatever frame and shadow root."""
        return combined(len(selectors), await self._tell_frames("effects", list(selectors)))

    def _told(self, what: str, of: object) -> str:
        return f"typeof {self._name} === 'function' ? {self._name}({json.dumps(what)}, {json.dumps(of)}) : ''"

    async def _tell_frames(self, what: str, of: object) -> list[object]:
        """Tell all frames at once, and return what they answer."""
        return list(await asyncio.gather(*(self._tell(frame, what, of) for frame in self._world.frames)))

    async def _tell(self, frame: str, what: str, of: object) -> object:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await self._world.ask_main_world(self._told(what, of), frame=frame)
        except (NoAnswerError, TimeoutError) as error:
            logger.debug("a frame could not be told of CSS: %r", error)
            return None


def combined(count: int, answers: Sequence[object]) -> list[bool]:
    """Whether each of `count` selectors was found by any frame; strangers may answer anything."""
    digits = [each for each in answers if isinstance(each, str) and re.fullmatch(f"[01]{{{count}}}", each)]
    return [any(each[place] == "1" for each in digits) for place in range(count)]
