import unicodedata

import pytest

from recording_farm.farm.host.font_coverage import CJK, SCRIPTS, parse_charsets, uncovered_scripts

# What Unicode calls them otherwise in the names of their letters.
NAMES = {
    "N'Ko": {"NKO"},
    "Odia": {"ORIYA"},
    "Canadian syllabics": {"CANADIAN"},
    "Han": {"CJK"},
    "Kana": {"HIRAGANA", "KATAKANA"},
    "New Tai Lue": {"NEW"},
    "Sylheti Nagri": {"SYLOTI"},
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_letters_should_be_of_their_script(script: str) -> None:
    expected = NAMES.get(script, {script.split()[0].upper()})
    assert {unicodedata.name(letter).split()[0] for letter in SCRIPTS[script]} == expected


def test_script_should_be_without_letters_when_one_is_missing() -> None:
    assert parse_charsets("20-7e a0\n1f600\n") == [
        range(0x20, 0x7F),
        range(0xA0, 0xA1),
        range(0x1F600, 0x1F601),
    ]
    assert uncovered_scripts(SCRIPTS, [range(0x110000)]) == []
    assert uncovered_scripts(SCRIPTS, []) == list(SCRIPTS)
    assert uncovered_scripts({"Thai", "Latin", *CJK}, [range(0x2E00), range(0x3041, 0x10000)]) == []
    assert uncovered_scripts({"Thai", "Latin"}, [range(0xE2A)]) == ["Thai"]
