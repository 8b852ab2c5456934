"""Letters of all scripts, and the same fonts as ever for the others."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from recording_farm.browser_bot.stage.stage import Stage, open_stage
from recording_farm.farm.host.font_coverage import SCRIPTS

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A letter without a font is drawn as the same box as what is no character at all.
BOXES = """(scripts) => {
  const surface = new OffscreenCanvas(80, 80).getContext("2d", {willReadFrequently: true});
  const drawn = (text) => {
    surface.clearRect(0, 0, 80, 80);
    surface.font = "32px sans-serif";
    surface.fillText(text, 20, 50);
    return surface.getImageData(0, 0, 80, 80).data.join();
  };
  const boxes = ["\\uffff", "\\u{10ffff}", " "].map(drawn);
  return Object.entries(scripts).filter(([, letters]) => [...letters].some((letter) =>
    boxes.includes(drawn(letter)))).map(([name]) => name);
}"""
FONTS = [
    ("en", "sans-serif", "Hello", "Liberation Sans"),
    ("de", "Roboto", "Grüße", "Liberation Serif"),
    ("de", "system-ui", "Grüße", "DejaVu Sans"),
    ("el", "system-ui", "Γειά", "DejaVu Sans"),
    ("en", "Arial", "Hello", "Liberation Sans"),
    ("en", "serif", "Hello", "Liberation Serif"),
    ("en", "monospace", "Hello", "DejaVu Sans Mono"),
    ("en", "sans-serif", "✓★", "DejaVu Sans"),
    ("en", "sans-serif", "🌨⭐", "Noto Color Emoji"),
    ("ar", "sans-serif", "مرحبا", "DejaVu Sans"),
    ("ja", "sans-serif", "こんにちは", "Noto Sans CJK JP"),
    ("en", "Noto Sans", "Hello", "Noto Sans"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with open_stage(320, 180, 30) as stage:
        yield stage


async def test_letters_of_all_scripts_should_be_drawn(stage: Stage) -> None:
    await stage.browser.page.goto("about:blank")
    assert await stage.browser.page.evaluate(BOXES, dict(SCRIPTS)) == []


@pytest.mark.parametrize(("language", "family", "text", "font"), FONTS)
async def test_more_fonts_should_leave_the_others_as_they_were(
    stage: Stage, language: str, family: str, text: str, font: str
) -> None:
    page = stage.browser.page
    await page.set_content(f'<p lang="{language}" style="font-family: {family}">{text}</p>')
    session = await page.context.new_cdp_session(page)
    await session.send("DOM.enable")
    await session.send("CSS.enable")
    root = (await session.send("DOM.getDocument"))["root"]["nodeId"]
    node = (await session.send("DOM.querySelector", {"nodeId": root, "selector": "p"}))["nodeId"]
    used = (await session.send("CSS.getPlatformFontsForNode", {"nodeId": node}))["fonts"]
    await session.detach()
    assert [each["familyName"] for each in used] == [font]
