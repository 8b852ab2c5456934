from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

import pytest

from recording_farm.farm.errors import LinkRefusedError
from recording_farm.farm.recording.links import download_link, verify_link

SECRET = b"0123456789abcdef"
ID = uuid4()
NAME = "demo_1.mp4"
EXPIRES = 2_000_000_000


def parts() -> dict[str, str]:
    """The parts of a good link, as the API gets them."""
    link = urlsplit(download_link(SECRET, ID, NAME, EXPIRES))
    query = parse_qs(link.query)
    _, _, _, recording_id, _, name = link.path.split("/")
    return {
        "recording_id": recording_id,
        "name": unquote(name),
        "expires": query["expires"][0],
        "signature": query["signature"][0],
    }


def test_link_should_open_its_file_until_it_expires() -> None:
    verify_link(SECRET, **parts(), present=EXPIRES - 1)
    for present in (EXPIRES, EXPIRES + 1):
        with pytest.raises(LinkRefusedError, match="expired"):
            verify_link(SECRET, **parts(), present=present)


@pytest.mark.parametrize(
    "changes",
    [
        {"expires": str(EXPIRES + 1)},
        {"expires": ""},
        {"expires": "never"},
        {"expires": "9" * 5000},
        {"expires": "-1"},
        {"name": "other.mp4"},
        {"name": f"{NAME}\n"},
        {"recording_id": str(uuid4())},
        {"signature": ""},
        {"signature": "0" * 64},
        {"signature": "é\udc80"},
        {"signature": parts()["signature"][:-1]},
        {"signature": parts()["signature"].upper()},
    ],
)
def test_altered_link_should_be_refused(changes: dict[str, str]) -> None:
    with pytest.raises(LinkRefusedError, match="not valid"):
        verify_link(SECRET, **(parts() | changes), present=EXPIRES - 1)


def test_link_of_another_farm_should_be_refused() -> None:
    with pytest.raises(LinkRefusedError, match="not valid"):
        verify_link(b"another secret", **parts(), present=EXPIRES - 1)
