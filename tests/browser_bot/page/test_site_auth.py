"""Credentials, headers and cookies reach the page's origin, and nobody else."""

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from recording_farm.browser_bot.errors import PageError
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.site_access import Cookie, HttpCredentials, SiteAccess
from recording_farm.browser_bot.page.site_auth import apply_access
from recording_farm.browser_bot.stage.environment import Environment
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from testkit.browser_bot.sites import Site, answer, open_site, redirect

SOON = 60.0
PASSWORD = "pa55/wörd"
KEY = "k3y-of-the-page"
SESSION = "session-s3cret"
BASIC = base64.b64encode(f"recorder:{PASSWORD}".encode()).decode()
SCRIPT = "text/javascript"

DIGEST = 'Digest realm="room", nonce="n0nce", qop="auth", algorithm=MD5'


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    # What one was given stays with it, so none is shared.
    async with open_stage(320, 180, 30, environment=Environment(credentials=True)) as stage:
        yield stage


@pytest.fixture
async def sites() -> AsyncIterator[tuple[Site, Site]]:
    async with AsyncExitStack() as opened:
        yield await opened.enter_async_context(open_site()), await opened.enter_async_context(open_site())


def guarded(site: Site, path: str, body: str = "in", challenge: str = 'Basic realm="room"') -> str:
    """A path of a site that answers 401 to who does not give the password."""
    refusal = answer("<p>who?", status="401 Unauthorized", more=f"www-authenticate: {challenge}")

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        given = re.search(r"^Authorization: (.*)\r$", site.headers[-1], re.MULTILINE)
        is_right = given is not None and given[1] in {f"Basic {BASIC}", digest(given[1], path)}
        await (answer(body) if is_right else refusal)(reader, writer)

    site.pages[path] = give
    return site.url(path)


def digest(given: str, path: str) -> str:
    """What `given` is with the right password (RFC 7616, 3.4.1)."""

    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode(), usedforsecurity=False).hexdigest()

    fields = dict(re.findall(r'(\w+)="?([^",]*)"?', given))
    if not given.startswith("Digest ") or fields["username"] != "recorder":
        return ""
    secret = md5("recorder", "room", PASSWORD)
    right = md5(secret, "n0nce", fields["nc"], fields["cnonce"], "auth", md5("GET", path))
    return re.sub(r'response="[^"]*"', f'response="{right}"', given)


def asked_with(site: Site, text: str) -> set[str]:
    """The paths that were asked for with a text somewhere in the request."""
    return {path for path, header in zip(site.asked, site.headers, strict=True) if text in header}


async def join(
    stage: Stage, url: str, access: SiteAccess, contract: PageContract = PageContract.CONSOLE
) -> Bot:
    bot = Bot(stage.browser, contract, secrets=access.secrets)
    async with asyncio.timeout(SOON):
        await apply_access(stage.browser, access, url)
        await bot.join(url, seconds=SOON, tries=1)
    return bot


async def test_all_of_the_pages_origin_and_nothing_else_should_get_headers_and_passwords(
    stage: Stage, sites: tuple[Site, Site], caplog: pytest.LogCaptureFixture
) -> None:
    site, other = sites
    theirs = other.url("", "localhost")
    page = f"""<body><script type=module>
      const first = (target) => new Promise((resolve) => {{ target.onmessage = resolve; }});
      const frame = Object.assign(document.createElement("iframe"), {{src: "{theirs}/frame"}});
      const shown = new Promise((resolve) => {{ frame.onload = resolve; }});
      document.body.append(frame);
      console.log((await fetch("/guarded")).status, "{KEY} {PASSWORD} {BASIC}");
      await Promise.all([shown, first(new Worker("/worker")), first(new SharedWorker("/shared").port)]);
      await fetch("{theirs}/fetched");
      await fetch("/away");
      await navigator.serviceWorker.register("/service");
      const served = first(navigator.serviceWorker);
      (await navigator.serviceWorker.ready).active.postMessage("");
      await served;
      const socket = new WebSocket("/socket");
      await new Promise((resolve) => {{ socket.onerror = socket.onopen = resolve; }});
      console.log("START_RECORDING");
    </script>"""
    url = guarded(site, "/page", page)
    guarded(site, "/guarded")
    site.add("/worker", answer("await fetch('/from-worker'); postMessage('')", kind=SCRIPT))
    site.add("/worker", answer("fetch('/from-worker').then(() => postMessage(''))", kind=SCRIPT))
    site.add(
        "/shared",
        answer(
            "onconnect = ({ports}) => fetch('/from-shared').then(() => ports[0].postMessage(''))", kind=SCRIPT
        ),
    )
    site.add(
        "/service",
        answer(
            "onmessage = ({source}) => fetch('/from-service').then(() => source.postMessage(''))", kind=SCRIPT
        ),
    )
    for path in ("/from-worker", "/from-shared", "/from-service", "/in-frame", "/socket"):
        site.add(path, "")
    site.add("/away", redirect(f"{theirs}/led"))
    other.add("/frame", f"<iframe src='{site.url('/in-frame')}'></iframe>")
    other.add("/fetched", "")
    other.add("/led", "")
    access = SiteAccess(
        (HttpCredentials(username="recorder", password=PASSWORD),),
        {"x-key": KEY, "authorization-of-page": "Bearer t0ken"},
        (Cookie(name="session", value=SESSION, http_only=True),),
    )
    with caplog.at_level(logging.DEBUG):
        bot = await join(stage, url, access)
    expected = {"/page", "/guarded", "/worker", "/from-worker", "/shared", "/from-shared", "/service"}
    expected |= {"/from-service", "/in-frame", "/away"}
    assert expected <= asked_with(site, f"x-key: {KEY}") <= {*expected, "/favicon.ico"}
    # The handshake has no headers of ours, but the password once it is known.
    assert {"/page", "/guarded", "/socket"} <= asked_with(site, f"Authorization: Basic {BASIC}")
    assert {"/page", "/guarded", "/worker"} <= asked_with(site, f"session={SESSION}")
    assert {"/frame", "/fetched", "/led"} <= set(other.asked)
    for secret in (KEY, "t0ken", BASIC, SESSION, "uthorization"):
        assert asked_with(other, secret) == set()
    # Also what the page itself prints of it, and what our own log has.
    told = "\n".join([*bot.page_log, caplog.text])
    assert "200" in told
    for secret in (KEY, "t0ken", PASSWORD, BASIC, SESSION):
        assert secret not in told


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
async def test_request_should_see_whether_the_password_is_taken(
    stage: Stage, sites: tuple[Site, Site], password: str
) -> None:
    site, other = sites
    guarded(site, "/late")
    guarded(site, "/digest", challenge=DIGEST)
    guarded(other, "/theirs")
    page = f"""<script type=module>
      const paths = ["/late", "/late", "/digest", "{other.url("/theirs")}"];
      window.seen = [];
      for (const path of paths) seen.push((await fetch(path)).status);
      console.log("START_RECORDING");
    </script>"""
    access = SiteAccess((HttpCredentials(username="recorder", password=password),))
    await join(stage, site.add("/page", page), access)
    seen = await stage.browser.page.evaluate("seen")
    assert seen == ([200, 200, 200, 401] if password == PASSWORD else [401] * 4)


async def test_another_origin_may_have_a_password_of_its_own(stage: Stage, sites: tuple[Site, Site]) -> None:
    site, other = sites
    theirs = guarded(other, "/theirs")
    page = f"""<script>
      onload = () => console.log("START_RECORDING");
    </script><iframe src="{theirs}"></iframe>"""
    access = SiteAccess(
        (HttpCredentials(username="recorder", password=PASSWORD, origin=other.url("/")),), {"x-key": KEY}
    )
    await join(stage, site.add("/page", page), access)
    assert asked_with(other, f"Basic {BASIC}") == {"/theirs"}
    assert asked_with(other, KEY) == set()


@pytest.mark.parametrize("in_url", [False, True])
async def test_frame_of_an_origin_without_a_password_should_show_its_401(
    stage: Stage, sites: tuple[Site, Site], in_url: bool
) -> None:
    """A browser that answers for one origin would ask somebody for the password of another, in a dialog."""
    site, other = sites
    theirs = guarded(other, "/theirs")
    page = (
        f"""<script>onload = () => console.log("START_RECORDING")</script><iframe src="{theirs}"></iframe>"""
    )
    url = guarded(site, "/page", body=page)
    if in_url:
        await join(stage, url.replace("//", f"//recorder:{quote(PASSWORD, safe='')}@"), SiteAccess())
    else:
        given = HttpCredentials(username="recorder", password=PASSWORD)
        await join(stage, url, SiteAccess((given,)))
    await stage.browser.page.frame_locator("iframe").get_by_text("who?").wait_for(timeout=SOON * 1000)


async def test_cookies_should_go_where_they_belong(stage: Stage, sites: tuple[Site, Site]) -> None:
    site, _ = sites
    cookies = (
        Cookie(name="own", value="1"),
        Cookie(name="all", value="2", domain="room.localhost"),
        Cookie(name="deep", value="3", path="/deep"),
        Cookie(name="hidden", value="4", http_only=True, same_site="Strict"),
    )
    below = site.add("/below", answer("", more="access-control-allow-credentials: true"))
    below = below.replace("127.0.0.1", "www.room.localhost")
    page = f"""<script type=module>
      window.seen = document.cookie;
      await fetch("/deep");
      await fetch("{below}", {{mode: "no-cors", credentials: "include"}});
      console.log("START_RECORDING");
    </script>"""
    site.add("/deep", "")
    url = site.add("/page", page).replace("127.0.0.1", "room.localhost")
    await join(stage, url, SiteAccess(cookies=cookies))
    assert set((await stage.browser.page.evaluate("seen")).split("; ")) == {"own=1", "all=2"}
    sent = dict(
        zip(
            site.asked,
            [set(re.findall(r"[ ;](own|all|deep|hidden)=\d", header)) for header in site.headers],
            strict=True,
        )
    )
    assert sent["/page"] == {"own", "all", "hidden"}
    assert sent["/deep"] == {"own", "all", "hidden", "deep"}
    assert sent["/below"] == {"all"}


async def test_what_the_browser_does_not_take_should_be_reported(
    stage: Stage, sites: tuple[Site, Site]
) -> None:
    # One that our own checks would not let through.
    cookie = Cookie.model_construct(name="two\0", value=SESSION)
    with pytest.raises(PageError, match=r"rejects the cookie two for 127\.0\.0\.1$"):
        await apply_access(stage.browser, SiteAccess(cookies=(cookie,)), sites[0].url())
    with pytest.raises(PageError, match="need an http or https page"):
        await apply_access(stage.browser, SiteAccess(headers={"x": "y"}), "file:///etc/hostname")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"value": "a;b"}, "printable ASCII"),
        ({"name": "a=b"}, "printable ASCII"),
        ({"value": "a\nb"}, "printable ASCII"),
        ({"value": "x" * 4095}, "4096 characters together"),
        ({"path": "deep"}, "begin with /"),
        ({"same_site": "None"}, "needs secure"),
        ({"name": "__Host-a", "secure": True, "domain": "a.example"}, "no domain"),
        ({"name": "__Secure-a"}, "needs secure"),
        ({"domain": "http://a.example"}, "must be a host name"),
        ({"domain": "a b"}, "must be a host name"),
        ({"domain": "com"}, "must be a host name"),
        ({"domain": "10.0.0.1"}, "must be a host name"),
    ],
)
def test_cookie_that_no_browser_takes_should_be_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Cookie.model_validate({"name": "name", "value": "value"} | fields)
