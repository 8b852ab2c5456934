import pytest

from recording_farm.browser_bot.errors import NoAnswerError, PageDeclinedError, PageError
from recording_farm.browser_bot.page.page_log import PageLog
from recording_farm.browser_bot.redaction import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("404 \x1b]0;PWNED\x07", "404 ]0;PWNED"),
        ("a\r\nb\tc\x85d\u2028e", "a  b c d e"),
        ("\x00\x7f\x9b31m", "31m"),
        ("\u202egpj.exe\u2069", "gpj.exe"),
        ("in\u200bvis\ufeffib\u00adle", "invisible"),
        ("\ud800\ue000", ""),
        # Letters and emoji stay as they are.
        ("Zoë \u0645\u06cc\u200c\u062e 日本 क्\u200dष", "Zoë \u0645\u06cc\u200c\u062e 日本 क्\u200dष"),
        ("👩\u200d👩\u200d👧 ❤\ufe0f 🏳️", "👩\u200d👩\u200d👧 ❤\ufe0f 🏳️"),
    ],
)
def test_control_characters_should_be_removed_and_letters_stay(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("kind", [PageError, PageDeclinedError, NoAnswerError])
def test_error_that_quotes_a_page_should_be_printable(kind: type[Exception]) -> None:
    assert str(kind("it printed \x1b[31m\n\u202e")) == "it printed [31m "


def test_log_of_a_page_should_be_printable_lines() -> None:
    log = PageLog(["secret"])
    log.write("console: a\x1b[2Jb\nsecret\u202e")
    assert log.lines[0].endswith(" console: a[2Jb …")
