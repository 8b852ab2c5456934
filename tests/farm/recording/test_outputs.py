import pytest

from recording_farm.farm.live.outputs import receiver_of
from recording_farm.farm.recording.outputs import OutputKind, read_stream_url, stream_output


@pytest.mark.parametrize(
    ("url", "hidden", "secrets"),
    [
        ("rtmp://a.example/live2/KEY", "rtmp://a.example/live2/***", ("KEY",)),
        ("RTMPS://A.example:444/app/inst/K?auth=1", "rtmps://a.example:444/app/inst/***", ("K?auth=1",)),
        ("rtmp://[::1]/live/KEY", "rtmp://[::1]/live/***", ("KEY",)),
        ("srt://a.example:9000", "srt://a.example:9000", ()),
        (
            "srt://a.example:9000?streamid=s1&passphrase=longer-secret&latency=200",
            "srt://a.example:9000?streamid=***&passphrase=***&latency=200",
            ("longer-secret", "s1"),
        ),
    ],
)
def test_url_should_be_shown_without_its_secrets(url: str, hidden: str, secrets: tuple[str, ...]) -> None:
    stream = read_stream_url(url)
    assert stream.hidden == hidden
    assert set(secrets) <= set(stream.secrets)
    assert stream_output(url).url == hidden


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        (
            "rtmp://a.example/live2/the-key?token=to%2Fken&n=1",
            {"the-key?token=to%2Fken&n=1", "the-key", "to%2Fken", "to/ken"},
        ),
        (
            "srt://a.example:9000?passphrase=p%40ss%2Fword%2B1%20",
            {"p@ss/word+1 ", "p%40ss%2Fword%2B1%20", "p%40ss%2Fword%2B1+", "p%40ss/word%2B1%20"},
        ),
    ],
)
def test_secrets_should_be_known_in_each_form(url: str, secrets: set[str]) -> None:
    found = read_stream_url(url).secrets
    assert secrets <= set(found)
    assert "1" not in found
    assert list(found) == sorted(found, key=lambda secret: (-len(secret), secret))


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/live/key",
        "rtmp:///live/key",
        "rtmp://a.example/live",
        "rtmp://a.example//",
        "rtmp://user@a.example/live/key",
        "rtmp://user:@a.example/live/key",
        "rtmp://user:pass%2Fword@a.example/live/key",
        f"rtmp://user:{50 * 'x'}@a.example/live/key",
        "rtmp://a.example/live2?backup=1",
        "rtmp://a.example/live2?backup=1/",
        "rtmp://a.example?backup=1/key",
        "rtmp://a.example:0/live/key",
        "rtmp://a.example:99999/live/key",
        "rtmp://a.example/live/key listen=1",
        "rtmp://a.example/live/key\n",
        "rtmp://a.example/live/kéy",
        "srt://a.example",
        "srt://a.example:9000/path",
        "srt://a.example:9000?mode=listener",
        "srt://a.example:9000?mode=rendezvous",
        "srt://a.example:9000?transtype=file",
        "srt://user:password@a.example:9000",
        "srt://a.example:9000?pkt_size=9000",
        "srt://a.example:9000?latency=1e9",
        "srt://a.example:9000?linger=5",
        "srt://a.example:9000?latency=1&latency=2",
        "srt://a.example:9000?pbkeylen=17",
        "srt://a.example:9000?passphrase=too-short",
        "srt://a.example:9000?passphrase=",
        "srt://a.example:9000?passphrase=" + 80 * "x",
        "srt://a.example:9000?streamid=" + 513 * "x",
        "srt://a.example:9000?streamid=a%00b",
    ],
)
def test_url_that_is_none_should_be_refused_in_words(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|has a|may"):
        read_stream_url(url)


@pytest.mark.parametrize(
    ("url", "app", "key", "hidden"),
    [
        # YouTube's second address, and what OBS makes of other servers with a query.
        ("rtmp://a.example/live2?backup=1/ab12-cd34", "live2?backup=1", "ab12-cd34", "/live2?***/***"),
        ("rtmp://a.example/live?token=t0ken/ab12?x=y", "live?token=t0ken", "ab12?x=y", "/live?***/***"),
        # Facebook's and Instagram's keys.
        ("rtmps://a.example/rtmp/FB-1?s_bl=1&a=Ab/c", "rtmp", "FB-1?s_bl=1&a=Ab/c", "/rtmp/***"),
        # A key that is a query and nothing else.
        ("rtmp://a.example/live-bvc/?streamname=s&key=k", "live-bvc", "?streamname=s&key=k", "/live-bvc/***"),
        ("rtmp://a.example/live/ab12#cd34", "live", "ab12#cd34", "/live/***"),
        ("rtmp://a.example/app/_definst_/stream@123/", "app/_definst_", "stream@123", "/app/_definst_/***"),
    ],
)
def test_rtmp_addresses_should_be_read_as_providers_write_them(
    url: str, app: str, key: str, hidden: str
) -> None:
    stream = read_stream_url(url)
    assert (stream.app, stream.key) == (app, key)
    assert stream.hidden.endswith(f"a.example{hidden}")
    assert key in stream.secrets
    assert ("t0ken" in stream.secrets) == ("t0ken" in url)


def test_login_of_an_rtmp_server_should_be_sent_and_not_shown() -> None:
    stream = read_stream_url("rtmp://user:p%2Bss:word@a.example/live/key")
    assert stream.hidden == "rtmp://***@a.example/live/***"
    assert {"user", "p+ss:word", "p%2Bss%3Aword"} <= set(stream.secrets)
    receiver = receiver_of(stream, "203.0.113.9")
    # The login is apart: the URL is on a command line.
    assert (receiver.url, receiver.login) == ("rtmp://203.0.113.9:1935", "user:p+ss:word")
    assert receiver.options["rtmp_tcurl"] == "rtmp://a.example:1935/live"


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("mode=caller&streamid=room", {"streamid": "room"}),
        ("transtype=live&streamid=#!::r=a,m=publish", {"streamid": "#!::r=a,m=publish"}),
        (
            "streamid=%23!::r=a,m=publish&passphrase=01%2B3456789&pbkeylen=0",
            {"streamid": "#!::r=a,m=publish", "passphrase": "01+3456789", "pbkeylen": "0"},
        ),
        ("streamId=srt://a.example:9999/app/s?x=y&", {"streamid": "srt://a.example:9999/app/s?x=y"}),
        ("pkt_size=1316&latency=2000000", {"pkt_size": "1316", "latency": "2000"}),
        ("payload_size=1316&srt_streamid=s", {"pkt_size": "1316", "streamid": "s"}),
    ],
)
def test_srt_addresses_should_be_read_as_providers_write_them(query: str, options: dict[str, str]) -> None:
    for between in ("?", "/?"):
        stream = read_stream_url(f"srt://a.example:9000{between}{query}")
        assert dict(stream.options) == options
    assert "mode" not in receiver_of(stream, "203.0.113.9").options


def test_srt_options_should_be_taken_as_far_as_the_protocol_goes() -> None:
    for length in (10, 79):
        read_stream_url(f"srt://a.example:9000?passphrase={length * 'x'}&pbkeylen=32&latency=0")


def test_connection_should_go_to_the_address_that_was_checked() -> None:
    rtmp = receiver_of(read_stream_url("rtmp://a.example/live/KEY"), "2001:db8::1")
    assert rtmp.url == "rtmp://[2001:db8::1]:1935"
    assert rtmp.options["rtmp_tcurl"] == "rtmp://a.example:1935/live"
    srt = receiver_of(read_stream_url("srt://a.example:9000?latency=120"), "203.0.113.9")
    assert srt.url == "srt://203.0.113.9:9000"
    assert srt.options["latency"] == "120000"


def test_tls_should_be_verified_by_the_name() -> None:
    receiver = receiver_of(read_stream_url("rtmps://a.example/live/KEY"), "203.0.113.9")
    assert receiver.url == "rtmps://a.example:443"
    assert receiver.options["tls_verify"] == "1"
    assert read_stream_url("rtmps://a.example/live/KEY").kind is OutputKind.RTMP
