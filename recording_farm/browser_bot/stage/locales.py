"""Validates locales (BCP 47) and time zones (IANA)."""

import re
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ISO 639-1.
_LANGUAGES: Final = _words(
    """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
    dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id
    ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu
    lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu
    rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr
    ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    """
)
# ISO 3166-1, alpha-2, with Kosovo.
_REGIONS: Final = _words(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT
    BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH
    ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT
    HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS
    LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI
    NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG
    SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG
    UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW
    """
)
_REGION_ALIASES: Final = {"UK": "GB", "EL": "GR"}
"""Common mistakes and the codes that are meant."""

# BCP 47 (RFC 5646) without its extensions; a region of three digits is UN M49's, as in es-419.
_TAG: Final = re.compile(
    r"(?P<language>[A-Za-z]{2,3})(-(?P<script>[A-Za-z]{4}))?(-(?P<region>[A-Za-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*)"
)
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z][A-Za-z0-9_+-]*)*")
_NO_ZONES: Final = ("posix/", "right/", "Factory", "localtime", "posixrules")
"""Files in the zone directory that are not time zones."""


def read_locale(text: str) -> str:
    """Return the canonical BCP 47 form of a locale: `de-at` becomes `de-AT`.

    Raises ValueError with the reason if it is not valid.
    """
    tag = _TAG.fullmatch(text)
    if tag is None:
        raise ValueError(
            "must be a language, optionally with a script and a region, such as de, de-AT or zh-Hant-TW"
        )
    language, script, region = tag["language"].lower(), tag["script"], tag["region"]
    if len(language) == 2 and language not in _LANGUAGES:
        raise ValueError(f"unknown language {language} (ISO 639)")
    if region is not None and not region.isdigit() and region.upper() not in _REGIONS:
        meant = _REGION_ALIASES.get(region.upper())
        hint = f"; use {meant}" if meant else ""
        raise ValueError(f"unknown region {region.upper()} (ISO 3166){hint}")
    parts = [language, script and script.title(), region and region.upper()]
    return "-".join(filter(None, parts)) + tag["variants"].lower()


def read_timezone(text: str) -> str:
    """Return an IANA time zone such as `Europe/Vienna`. Raises ValueError if there is no such zone."""
    if _ZONE.fullmatch(text) and not text.startswith(_NO_ZONES):
        try:
            ZoneInfo(text)
        except (ZoneInfoNotFoundError, OSError, ValueError):
            pass
        else:
            return text
    raise ValueError("must be the IANA name of a time zone, such as Europe/Vienna or UTC")
