import pytest
from playwright.async_api import async_playwright

from recording_farm.browser_bot.network.host_names import HostError, normalize_host

SPELLINGS = [
    *(
        "straße.test",
        "STRASSE.test",
        "STRAẞE.test",
        "xn--strae-oqa.test",
        "XN--STRAE-OQA.test",
        "faß.de",
        "Σς.gr",
    ),
    *(
        "münchen.de",
        "mu\u0308nchen.de",
        "例え。テスト",
        "ｅｘａｍｐｌｅ．test",
        "b\u00adc.test",
        "a\u200bb.test",
    ),
    *("☃.net", "💩.test", "ﬁ.test", "Ⅷ.test", "K.test", "İ.test", "≠.test", "a\u0301.test", "xn--a.test"),
    *("a\u200db.test", "क्\u200dष.test", "क\u200dष.test", "نامه\u200cای.com", "\u0301a.test", "a⒈com"),
    *("א1.test", "1א.test", "אa.test", "א.a", "٠.test", "xn--\u00fc.test", "℀.test", "\ufffd.test"),
    *(
        "127.0.0.1.",
        "１２７.0.0.1",
        "１２７。0。0。1",
        "①②⑦.0.0.1",
        "%31%32%37.0.0.1",
        "0x7F.1",
        "0x",
        "127.1",
    ),
    *("2130706433", "017700000001", "0177.1", "4294967295", "4294967296", "1.2.3.4.5", "256.1.1.1", "1.2.3"),
    *("a.1", "a.0x1", "a.09", "08.1.1.1", "0x.0x.0", "a_b.test", "-a-.test", "ab--cd.test", "LOCALHOST."),
    *("ex%61mple.test", "%c3%9f.test", "%ff.test", "%zz.test", "a%2fb.test", "a%00b.test", "a%3a1.test"),
    *("[::1]", "[::FFFF:7f00:1]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[1::2::3]", "[::1%25lo]", "[v1.a]"),
]


async def test_host_should_be_the_one_that_chromium_opens() -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = await browser.new_page()
        opened = await page.evaluate(
            "hosts => hosts.map(host => {"
            " try { return new URL(`http://${host}/`).hostname } catch { return null } })",
            SPELLINGS,
        )
        await browser.close()
    theirs = [None if host is None else host.strip("[]").removesuffix(".") for host in opened]
    assert dict(zip(SPELLINGS, map(_host, SPELLINGS), strict=True)) == dict(
        zip(SPELLINGS, theirs, strict=True)
    )
    assert theirs[0] == "xn--strae-oqa.test"


def _host(text: str) -> str | None:
    try:
        return normalize_host(text)
    except HostError:
        return None


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "a b", "a%20b", "a,b", "a!b", "a" * 64, "a." * 127 + "a", "ü" * 60]
)
def test_what_can_be_no_name_should_be_refused(text: str) -> None:
    with pytest.raises(HostError, match="name"):
        normalize_host(text)
