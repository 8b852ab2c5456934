"""Parts of a page that did not load: a broken image or a missing font is in the picture, but in no design."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page, Request, Response

from recording_farm.layouts.suite import shown_address

MAX_TOLD: Final = 20
"""A page whose server is gone has hundreds of faults."""

ABORTED: Final = "ERR_ABORTED"
"""The page itself, or leaving it, ended the request."""

KINDS: Final = {"xhr": "request", "fetch": "request", "document": "frame", "other": "request"}
"""Words for Chromium's types of resources; the others are words already: image, font, stylesheet, script."""

LOADED: Final = """
(async (masks) => {
  const masked = (element) => masks.some((mask) => element.closest(mask));
  const address = (element) => element.currentSrc || element.src || "";
  const decodes = (image) => image.decode().then(() => true, () => false);
  const broken = async (element) => element instanceof HTMLImageElement
    ? element.complete && address(element) && !await decodes(element)
    : element.error;
  const answer = { masked: [], broken: [], fonts: [] };
  for (const element of document.querySelectorAll("img, video, audio, iframe")) {
    if (masked(element)) answer.masked.push(address(element));
    else if (await broken(element)) answer.broken.push([element.localName, address(element)]);
  }
  for (const font of document.fonts) if (font.status === "error") answer.fonts.push(font.family);
  return answer;
})
"""
"""Asked in each frame: addresses that masked elements show, images and players that show nothing, and fonts
that did not load."""


class PageFaults:
    """Collects failed requests of one page, state after state."""

    def __init__(self, page: Page) -> None:
        """Listen to `page`."""
        self._failed: dict[str, str] = {}
        page.on("response", self._on_response)
        page.on("requestfailed", self._on_failed)

    def forget(self) -> None:
        """Start with the next state."""
        self._failed.clear()

    def found(self, frames: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
        """The faults so far, in words; `frames` are the values of `LOADED`, one of each frame."""
        answers = list(frames)
        masked = {address for answer in answers for address in answer["masked"]}
        broken = [(name, address) for answer in answers for name, address in answer["broken"]]
        fonts = [font for answer in answers for font in answer["fonts"]]
        return in_words(self._failed, broken, fonts, masked)

    def _on_response(self, response: Response) -> None:
        if response.status >= 400 and not _is_the_page(response.request):
            self._keep(response.request, f"answered {response.status}")

    def _on_failed(self, request: Request) -> None:
        why = (request.failure or "").removeprefix("net::")
        if why != ABORTED and not _is_the_page(request):
            self._keep(request, f"failed ({why})" if why else "failed")

    def _keep(self, request: Request, how: str) -> None:
        kind = KINDS.get(request.resource_type, request.resource_type)
        self._failed[request.url] = f"{kind} {shown_address(request.url)} {how}"


def in_words(
    failed: Mapping[str, str],
    broken: Iterable[tuple[str, str]],
    fonts: Iterable[str],
    masked: Collection[str],
) -> tuple[str, ...]:
    """Each fault once, without those that a mask hides: a failed request also makes its element broken."""
    lines = [words for address, words in failed.items() if address not in masked]
    lines += [
        f"{name} {shown_address(address)} cannot be shown"
        for name, address in broken
        if address not in failed
    ]
    if not any(words.startswith("font ") for words in failed.values()):
        lines += [f"font {family} did not load" for family in fonts]
    told = list(dict.fromkeys(lines))
    if len(told) > MAX_TOLD:
        told[MAX_TOLD:] = [f"and {len(told) - MAX_TOLD} more"]
    return tuple(told)


def _is_the_page(request: Request) -> bool:
    """Whether it is for the page itself, whose error the renderer tells."""
    try:
        return request.is_navigation_request() and request.frame.parent_frame is None
    except PlaywrightError:
        return False  # a service worker's request has no frame
