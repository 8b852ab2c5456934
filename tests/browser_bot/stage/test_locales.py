import pytest

from recording_farm.browser_bot.stage.locales import read_locale, read_timezone


@pytest.mark.parametrize(
    ("text", "locale"),
    [
        ("de", "de"),
        ("de-at", "de-AT"),
        ("ZH-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("sr-Latn", "sr-Latn"),
        ("ckb-IQ", "ckb-IQ"),
        ("ca-ES-valencia", "ca-ES-valencia"),
        ("de-1996", "de-1996"),
    ],
)
def test_locale_should_be_read_as_its_standard_writes_it(text: str, locale: str) -> None:
    assert read_locale(text) == locale


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("en-UK", r"unknown region UK \(ISO 3166\); use GB"),
        ("de-XX", "unknown region XX"),
        ("xx", r"unknown language xx \(ISO 639\)"),
        ("german", "must be a language"),
        ("de_AT", "must be a language"),
        ("de-AT\n", "must be a language"),
        ("de,en", "must be a language"),
        ("", "must be a language"),
        ("*", "must be a language"),
    ],
)
def test_invalid_locale_should_be_reported(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_locale(text)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Vienna", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])
def test_zone_should_be_taken_as_it_is(zone: str) -> None:
    assert read_timezone(zone) == zone


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Vienna",
        "europe/vienna ",
        "Europe",
        "../etc/passwd",
        "/etc/localtime",
        "localtime",
        "posix/UTC",
        "UTC+1",
    ],
)
def test_invalid_time_zone_should_be_reported(text: str) -> None:
    with pytest.raises(ValueError, match="IANA name of a time zone"):
        read_timezone(text)
