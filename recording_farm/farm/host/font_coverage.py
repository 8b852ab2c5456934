"""Checks which scripts the installed fonts do not cover."""

import re
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final

SCRIPTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Latin": "aßğđ", "Greek": "λώ", "Cyrillic": "жїѓ", "Armenian": "բև", "Georgian": "გამ",
        "Hebrew": "שלם", "Arabic": "عپڈ", "Syriac": "ܫܠܡ", "Thaana": "ދިވެ", "N'Ko": "ߒߞߏ", "Adlam": "𞤀𞤣",
        "Devanagari": "नमस्ते", "Bengali": "স্বা", "Gurmukhi": "ਸਤਿ", "Gujarati": "નમસ્તે", "Odia": "ନମସ୍ତେ",
        "Tamil": "வணக்", "Telugu": "నమస్", "Kannada": "ನಮಸ್", "Malayalam": "നമസ്", "Sinhala": "ආයු",
        "Thai": "สวัส", "Lao": "ສະບາຍ", "Khmer": "សួស្តី", "Myanmar": "မင်္ဂ", "Tibetan": "བཀྲ",
        "Ethiopic": "ሰላም", "Tifinagh": "ⴰⵣⵓ", "Vai": "ꕙꔤ", "Bamum": "ꚠꚡ",
        "Cherokee": "ᏣᎳᎩ", "Canadian syllabics": "ᐃᓄᒃ", "Osage": "𐓏𐓘",
        "Han": "你們語", "Kana": "あカ", "Bopomofo": "ㄅㄆ", "Hangul": "안녕", "Yi": "ꆈꌠ", "Lisu": "ꓡꓲ",
        "Mongolian": "ᠮᠣᠩ", "Javanese": "ꦗꦮ", "Balinese": "ᬩᬮᬶ", "Sundanese": "ᮞᮥᮔ᮪", "Buginese": "ᨅᨔ",
        "Batak": "ᯅᯖᯂ᯳", "Cham": "ꨌꩌ", "Tai Le": "ᥖᥭᥰ", "New Tai Lue": "ᦟᦹᧉ", "Tai Tham": "ᨲᩫ᩠ᩅ",
        "Tai Viet": "ꪼꪕ", "Limbu": "ᤕᤠᤰ", "Lepcha": "ᰛᰩᰵ", "Meetei Mayek": "ꯃꯤꯇꯩ", "Ol Chiki": "ᱚᱞ",
        "Chakma": "𑄌𑄋𑄴", "Newa": "𑐣𑐾", "Saurashtra": "ꢱꣃꢬ", "Sylheti Nagri": "ꠍꠤꠟ", "Kayah Li": "ꤊꤢ",
        "Miao": "𖼀𖼁", "Hanifi Rohingya": "𐴌𐴗",
    }
)  # fmt: skip
"""Sample letters of each script in daily use (Unicode's UAX #31, tables 5 and 7)."""

CJK: Final = frozenset({"Han", "Kana", "Bopomofo", "Hangul"})
"""The scripts of Chinese, Japanese and Korean."""

_CODES: Final = re.compile(r"\b([0-9a-f]{1,6})(?:-([0-9a-f]{1,6}))?\b")


def parse_charsets(listing: str) -> list[range]:
    """Parse the code points in the output of `fc-list --format '%{charset}\\n'`."""
    return [range(int(first, 16), int(last or first, 16) + 1) for first, last in _CODES.findall(listing)]


def uncovered_scripts(scripts: Collection[str], there: Iterable[range]) -> list[str]:
    """The `scripts` with a sample letter that no font has."""
    missing = {letter for script in scripts for letter in SCRIPTS[script]}
    for codes in there:
        missing -= {letter for letter in missing if ord(letter) in codes}
    return [script for script in SCRIPTS if script in scripts and missing & set(SCRIPTS[script])]
