"""Pictures from a real stage: what moves is stopped or masked, and nothing of a state reaches the next."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL.Image import Image as Picture

from recording_farm.layouts.comparison import compare
from recording_farm.layouts.errors import RenderingFailedError
from recording_farm.layouts.pictures import IDLE_MASKS, MADE_BY, MASK_COLOR, WARNINGS, changed
from recording_farm.layouts.render import Renderer, open_renderer
from recording_farm.layouts.suite import State, Suite, Tolerance, Viewport
from testkit.browser_bot.sites import answer, hang, open_site
from testkit.layouts.rooms import ROOM
from testkit.network.ports import free_port
from testkit.pages import serve_pages

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]

TIME = Suite.model_fields["time"].default
VIEWPORT = Viewport(640, 360)
RUNS = 20
PLATE = "document.querySelector('.plate').style.marginLeft = '2px'"
NO_TILE = "document.querySelector('.tile:last-child').remove()"
COLOR = (
    "for (const part of ['', ' canvas']) document.querySelector(`.tile:last-child${part}`).style.display = "
    "part ? 'none' : 'block'; document.querySelector('.tile:last-child').style.background = '#4a4f6b'"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def renderer() -> AsyncIterator[Renderer]:
    async with open_renderer(VIEWPORT, TIME) as renderer:
        yield renderer


async def room(renderer: Renderer, url: str = ROOM.as_uri(), **fields: Any) -> Picture:
    said = {"name": "room", "url": url, "masks": ["canvas"], "viewport": VIEWPORT} | fields
    return await renderer.picture(State.model_validate(said), url)


def differs(baseline: Picture, actual: Picture) -> int:
    result = compare(baseline, actual, State(name="a", url="a").threshold, Tolerance())
    return 0 if result.same else result.pixels


@pytest.mark.long
async def test_room_should_look_exactly_the_same_in_20_runs(renderer: Renderer) -> None:
    first = await room(renderer)

    for _ in range(RUNS - 1):
        assert changed(first, await room(renderer)) is None


@pytest.mark.long
async def test_new_stage_should_give_exactly_the_same_picture(renderer: Renderer) -> None:
    first = await room(renderer)

    async with open_renderer(VIEWPORT, TIME) as other:
        assert changed(first, await room(other)) is None


async def test_picture_should_be_of_the_viewport_and_tell_its_browser(renderer: Renderer) -> None:
    picture = await room(renderer)

    assert picture.size == (640, 360)
    assert "/" in picture.info[MADE_BY]


@pytest.mark.parametrize("script", [PLATE, NO_TILE, COLOR], ids=["2 px", "missing tile", "color"])
async def test_change_of_the_layout_should_be_found(renderer: Renderer, script: str) -> None:
    assert differs(await room(renderer), await room(renderer, script=script)) > 50


async def test_plate_over_a_masked_video_should_be_seen(renderer: Renderer) -> None:
    picture = await room(renderer)

    assert picture.getpixel((100, 60)) == MASK_COLOR
    left, bottom = 20, 10 + 130 - 10
    plate = picture.crop((left, bottom - 20, left + 40, bottom))
    assert len(plate.getcolors(1000) or []) > 10


async def test_frame_within_the_page_should_be_masked_and_stopped_too(
    renderer: Renderer, tmp_path: Path
) -> None:
    (tmp_path / "room.html").write_bytes(ROOM.read_bytes())
    (tmp_path / "index.html").write_text('<iframe src="room.html" width="600" height="320"></iframe>')
    with serve_pages(tmp_path) as address:
        whole = await room(renderer, f"{address}/index.html", masks=["iframe"])
        inside = await room(renderer, f"{address}/index.html", masks=["canvas"])
        again = await room(renderer, f"{address}/index.html", masks=["canvas"])

    assert changed(inside, again) is None
    assert whole.crop((20, 20, 500, 300)).getcolors() == [(480 * 280, MASK_COLOR)]
    assert inside.getpixel((100, 60)) == MASK_COLOR
    assert len(inside.getcolors(10_000) or []) > 10


async def test_masks_should_reach_into_shadow_roots_and_those_that_find_nothing_be_named(
    renderer: Renderer, tmp_path: Path
) -> None:
    page = """<style>body { margin: 0 }</style><script>
    window.eval = window.CSSStyleSheet = () => {}; Array.prototype.toJSON = () => "x";
    for (const [mode, text] of [["open", "1"], ["closed", "2"]]) {
      const host = document.body.appendChild(document.createElement("x-room"));
      const root = host.attachShadow({ mode });
      root.adoptedStyleSheets = [];
      root.innerHTML = "<p style='background: red; margin: 0; height: 90px'></p>";
    }
    const host = document.body.appendChild(document.createElement("x-clock"));
    host.style = "display: block; height: 90px";
    host.attachShadow({ mode: "closed" }).innerHTML = "<b style='background: red'>12:00</b>";
    </script>"""
    (tmp_path / "index.html").write_text(f"<body>{page}")

    picture = await room(
        renderer, (tmp_path / "index.html").as_uri(), masks=["p", "x-clock", ".nothing", "video:hover"]
    )

    assert picture.crop((0, 0, 640, 270)).getcolors() == [(640 * 270, MASK_COLOR)]
    assert picture.info[IDLE_MASKS] == (".nothing", "video:hover")


async def test_box_should_mask_what_has_no_element(renderer: Renderer) -> None:
    tiles = {"x": 0, "y": 0, "width": 640, "height": 300}

    picture = await room(renderer, masks=[tiles])

    assert picture.crop((0, 0, 640, 300)).getcolors() == [(640 * 300, MASK_COLOR)]
    assert len(picture.crop((0, 300, 640, 360)).getcolors(10_000) or []) > 10


@pytest.mark.long
async def test_what_still_moves_should_be_reported_with_its_place(renderer: Renderer) -> None:
    with pytest.raises(
        RenderingFailedError, match=r"did not stand still for 10 s: what moves is .* at \d+,\d+"
    ):
        await room(renderer, masks=[])


async def test_time_should_stand_and_be_the_suites(renderer: Renderer) -> None:
    said = """
        const still = matchMedia('(prefers-reduced-motion)').matches;
        const words = `${Date.now()} ${new Date().getTimezoneOffset()} ${still}`;
        if (words !== '%d 0 true') throw new Error(words);
    """

    await room(renderer, script=said % (TIME.timestamp() * 1000))


async def test_random_numbers_should_be_the_same_each_time_in_page_and_frames(
    renderer: Renderer, tmp_path: Path
) -> None:
    numbers = "<script>document.write(Math.random() + ' ' + Math.random())</script>"
    page = tmp_path / "random.html"
    (tmp_path / "frame.html").write_text(numbers)
    page.write_text(f"<body>{numbers}<iframe src=frame.html></iframe>")
    differ = (
        "const [one, other] = document.body.innerText.split(' '); if (one === other) throw new Error(one);"
    )

    first = await room(renderer, page.as_uri(), masks=[], script=differ)

    assert changed(first, await room(renderer, page.as_uri(), masks=[])) is None


async def test_parts_that_do_not_load_should_be_warnings_without_secrets(
    renderer: Renderer, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text(
        "<style>@font-face { font-family: Brand; src: url(brand.woff2) } body { font-family: Brand }"
        "#back { background: url(back.png) }</style><link rel=stylesheet href=gone.css><p id=back>Text"
        "<img src='gone.png?token=secret'><img src=text.png><img src=good.svg><video src=gone.mp4></video>"
        "<iframe src=gone.html></iframe>"
    )
    (tmp_path / "text.png").write_text("this is no picture")
    (tmp_path / "good.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'/>")
    with serve_pages(tmp_path) as address:
        picture = await room(renderer, f"{address}/index.html", masks=["video"])
        masked = await room(renderer, f"{address}/index.html", masks=["video", "img", "iframe"])
        clean = await room(renderer, masks=["canvas"])

    hidden = {
        f"image {address}/gone.png answered 404",
        f"img {address}/text.png cannot be shown",
        f"frame {address}/gone.html answered 404",
    }
    seen = {
        f"stylesheet {address}/gone.css answered 404",
        f"image {address}/back.png answered 404",
        f"font {address}/brand.woff2 answered 404",
    }
    assert set(picture.info[WARNINGS]) == seen | hidden
    assert set(masked.info[WARNINGS]) == seen
    assert clean.info[WARNINGS] == ()


async def test_page_should_see_the_preferred_colors(renderer: Renderer) -> None:
    is_dark = "if (matchMedia('(prefers-color-scheme: dark)').matches !== %s) throw new Error('no')"

    await room(renderer, color_scheme="dark", script=is_dark % "true")
    await room(renderer, script=is_dark % "false")


async def test_state_should_find_nothing_that_another_left(renderer: Renderer) -> None:
    fresh = "if (document.title !== 'visit 0') throw new Error(document.title)"
    with serve_pages(ROOM.parent) as address:
        await room(renderer, f"{address}/room.html")
        await room(renderer, f"{address}/room.html", script=fresh)


async def test_page_should_be_ready_when_it_says_so(renderer: Renderer, tmp_path: Path) -> None:
    page = tmp_path / "late.html"
    page.write_text(
        "<body><script>setTimeout(() => { document.body.innerHTML = '<b id=there>there</b>';"
        "console.log('START_RECORDING') }, 1500)</script>"
    )
    there = await room(renderer, page.as_uri(), contract="console")

    assert changed(there, await room(renderer, page.as_uri(), wait_for="#there")) is None
    assert len(there.getcolors(10_000) or []) > 1


async def test_window_that_the_page_opens_should_not_stand_over_it(
    renderer: Renderer, tmp_path: Path
) -> None:
    page = tmp_path / "opens.html"
    page.write_text("<script>window.open('about:blank', '', 'width=300,height=300')</script>still")

    assert changed(await room(renderer, page.as_uri()), await room(renderer, page.as_uri())) is None


async def test_fault_of_a_page_should_be_reported_without_its_address(
    renderer: Renderer, tmp_path: Path
) -> None:
    not_found = pytest.raises(RenderingFailedError, match="did not load: it answered 404")
    with serve_pages(tmp_path) as address, not_found:
        await room(renderer, f"{address}/nothing?token=secret")
    with pytest.raises(RenderingFailedError, match=r"did not load: .*ERR_CONNECTION_REFUSED") as refused:
        await room(renderer, f"http://127.0.0.1:{free_port()}/?token=secret")
    assert "secret" not in str(refused.value)
    with pytest.raises(RenderingFailedError, match=r"its script failed: .*over"):
        await room(renderer, script="throw new Error('over')")
    with pytest.raises(RenderingFailedError, match="its script failed"):
        await room(renderer, script="this is no script")
    with pytest.raises(RenderingFailedError, match=r"did not settle: .*not a valid selector"):
        await room(renderer, masks=["canvas {}, b"])

    assert (await room(renderer)).size == (640, 360)


APPLICATION = "<body style='background: #123'><script>setTimeout(() => { STARTS }, 200)</script>"


@pytest.mark.parametrize(
    ("starts", "fields"),
    [
        ("document.body.append(document.createElement('main'), 'room')", {"wait_for": "body:has(main)"}),
        ("console.log('START_RECORDING')", {"contract": "console"}),
    ],
)
async def test_application_that_is_served_as_an_error_should_be_pictured_when_it_starts(
    renderer: Renderer, starts: str, fields: dict[str, Any]
) -> None:
    async with open_site() as site:
        page = answer(APPLICATION.replace("STARTS", starts), status="404 Not Found")
        picture = await room(renderer, site.add("/", page), masks=[], **fields)
    assert picture.getpixel((600, 300)) == (0x11, 0x22, 0x33)


@pytest.mark.parametrize("fields", [{}, {"contract": "console"}])
async def test_error_page_should_be_reported_with_its_status(
    renderer: Renderer, fields: dict[str, Any]
) -> None:
    async with open_site() as site:
        url = site.add("/", answer("<h1>Not Found</h1>", status="404 Not Found"))
        with pytest.raises(RenderingFailedError, match="its page did not load: it answered 404"):
            await room(renderer, url, **fields)


async def test_error_page_that_never_starts_should_be_reported_with_its_status(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.layouts.render.READY_TIMEOUT", 2.0)
    async with open_site() as site:
        url = site.add("/", answer("<script>0</script>", status="500 Oh no"))
        with pytest.raises(
            RenderingFailedError, match="its page answered 500, and what it waits for did not"
        ):
            await room(renderer, url, wait_for="main")
        with pytest.raises(RenderingFailedError, match="its page answered 500, and did not print START"):
            await room(renderer, url, contract="console")


async def test_page_with_a_picture_that_never_comes_should_be_pictured_without(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.layouts.render.LOAD_TIMEOUT", 1.0)
    async with open_site() as site:
        site.pages["/hang"] = hang
        url = site.add("/", "<body style='background: #123'><img src=/hang>")
        picture = await room(renderer, url, masks=[])
    assert picture.getpixel((600, 300)) == (0x11, 0x22, 0x33)
    assert picture.info[WARNINGS] == ("parts of the page did not load within 1 s",)
