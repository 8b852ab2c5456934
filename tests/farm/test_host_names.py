"""Hosts are read as Chromium reads them wherever the farm compares them, or connects to them."""

from ipaddress import IPv4Address

import pytest

from recording_farm.browser_bot.network.addresses import (
    AddressError,
    AddressRule,
    check_url,
    is_under,
    origin_of,
    parse_address_rule,
    resolve_host,
)
from recording_farm.browser_bot.network.dns import DnsAnswer
from recording_farm.browser_bot.network.host_names import with_host_in_ascii
from recording_farm.browser_bot.page.hints import is_jitsi
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import InvalidRequestError
from recording_farm.farm.pages.watermark import fetch
from recording_farm.farm.recording.outputs import read_stream_url
from recording_farm.farm.storage.targets import TARGET, endpoint_of
from recording_farm.farm.webhooks.request import Poster
from testkit.receivers import receiver

LOOPBACK = parse_address_rule("127.0.0.0/8,::1")
SHARP_S = "xn--strae-oqa.test"
S3 = {"type": "s3", "access_key": "a", "secret": "b", "bucket": "films", "region": ""}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that the resolver is asked for; it knows one of them."""
    names: list[str] = []

    async def look_up(host: str, *_: object) -> DnsAnswer:
        names.append(host)
        return DnsAnswer((IPv4Address("127.0.0.1"),) if host == SHARP_S else (), is_final=True)

    monkeypatch.setattr("recording_farm.browser_bot.network.addresses.look_up", look_up)
    return names


@pytest.mark.parametrize("host", ["straße.test", "STRAẞE.test", "stra%C3%9Fe.test", SHARP_S, f"{SHARP_S}."])
async def test_webhook_and_watermark_should_go_where_chromium_goes(asked: list[str], host: str) -> None:
    with receiver() as hook:
        async with Poster(LOOPBACK, 5) as poster:
            answer = await poster.post(f"http://{host}:{hook.port}/hook?x=%C3%A4", b"{}", {})
        assert answer.is_success, answer.error
        assert hook.received[0].headers["host"] == f"{SHARP_S}:{hook.port}"
        # It has no files, and says so.
        with pytest.raises(InvalidRequestError, match="its server answered"):
            await fetch(f"http://{host}:{hook.port}/mark.svg", LOOPBACK)
    assert set(asked) == {SHARP_S}


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f.0.0.1", "2130706433", "１２７.0.0.1", "%31%32%37.0.0.1", "localhost."]
)
async def test_address_should_be_the_same_for_check_and_connection(host: str) -> None:
    with pytest.raises(AddressError, match=r"private address"):
        await check_url(f"http://{host}/", AddressRule())
    with pytest.raises(AddressError, match=r"private address"):
        await resolve_host(host, 80, AddressRule())
    with receiver() as hook:
        async with Poster(LOOPBACK, 5) as poster:
            assert (await poster.post(f"http://{host}:{hook.port}/", b"{}", {})).is_success
    assert str((await resolve_host(host, 80, LOOPBACK)).addresses[0]) == "127.0.0.1"


@pytest.mark.parametrize(
    "host", ["a..b", "xn--\u00fc.test", "%zz.test", "256.1.1.1", "[::1%25lo]", "[v1.a]", "a b"]
)
def test_host_that_chromium_refuses_should_be_refused(host: str) -> None:
    with pytest.raises(AddressError):
        origin_of(f"http://{host}/")
    with pytest.raises(ValueError, match=r"host|read|spaces|address"):
        read_stream_url(f"rtmp://{host}/live/key")
    with pytest.raises(ValueError, match="endpoint"):
        TARGET.validate_python(S3 | {"endpoint": f"https://{host}/"})


def test_hosts_should_be_compared_as_chromium_opens_them() -> None:
    settings = Settings(
        public_url="https://straße.test/",
        jitsi_hosts=("Meet.Straße.test",),
        cors_origins=("https://straße.test:443",),
    )
    assert settings.base_url == f"https://{SHARP_S}"
    assert settings.cors_origins == (f"https://{SHARP_S}",)
    assert is_jitsi("https://meet.straße.test/room", settings.jitsi_hosts)
    assert is_jitsi(f"https://MEET.{SHARP_S}./room", settings.jitsi_hosts)
    assert not is_jitsi("https://meet.strasse.test/room", settings.jitsi_hosts)
    assert is_under("https://STRASSE.test/meet/x", ["https://strasse.test/meet/"])
    assert is_under("https://straße.test/meet/x", settings.built_in_meetings)
    assert not is_under("https://strasse.test/meet/x", settings.built_in_meetings)


def test_outputs_and_storages_should_have_the_host_in_ascii() -> None:
    stream = read_stream_url("rtmp://straße.test/live/key")
    assert (stream.host, stream.hidden) == (SHARP_S, f"rtmp://{SHARP_S}/live/***")
    assert read_stream_url("srt://0x7f.1:9000").host == "127.0.0.1"
    with pytest.raises(ValueError, match="ASCII, except for the host"):
        read_stream_url("rtmp://straße.test/live/schlüssel")
    target = TARGET.validate_python(S3 | {"endpoint": "https://straße.test:9000/s3"})
    assert endpoint_of(target) == f"https://{SHARP_S}:9000/s3"


@pytest.mark.parametrize(
    ("url", "ascii_url"),
    [
        ("http://http/http", "http://http/http"),
        ("rtmp://user:pw@Straße.test:1/x?y#z", f"rtmp://user:pw@{SHARP_S}:1/x?y#z"),
        ("https://[::0001]:8/", "https://[::1]:8/"),
        ("http://straße.test", f"http://{SHARP_S}"),
    ],
)
def test_rest_of_a_url_should_stay_as_it_is(url: str, ascii_url: str) -> None:
    assert with_host_in_ascii(url) == ascii_url
