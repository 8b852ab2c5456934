"""Download links: whoever has one may fetch one file until the link expires.

A link carries its expiry and an HMAC-SHA256 over recording, name and expiry; the farm keeps nothing about it.
"""

import hashlib
import hmac
import re
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode
from uuid import UUID

from farm.errors import LinkRefused
from farm.recordings import Recording, Status, now
from farm.settings import Settings

DOWNLOAD_PATH: Final = "/v2/recordings/{recording_id}/download/{name}"
"""Where files are served."""


class DownloadLink(NamedTuple):
    """A whole link to a recording's file, and until when it is valid."""

    url: str
    expiry: datetime


def link_to(recording: Recording, settings: Settings, secret: bytes) -> DownloadLink | None:
    """A fresh link to the file of a recording, None while there is no file."""
    if recording.status is not Status.UPLOADED:
        return None
    expiry = (now() + timedelta(seconds=settings.link_seconds)).replace(microsecond=0)
    link = download_link(secret, recording.id, recording.output_file_name, int(expiry.timestamp()))
    return DownloadLink(settings.base_url + link, expiry)


def download_link(secret: bytes, recording_id: UUID, name: str, expires: int) -> str:
    """Path and query of a link to the file `name`, valid until `expires` (Unix seconds)."""
    path = DOWNLOAD_PATH.format(recording_id=recording_id, name=quote(name, safe=""))
    query = {"expires": expires, "signature": _signature(secret, str(recording_id), name, expires)}
    return f"{path}?{urlencode(query)}"


def verify_link(
    secret: bytes, recording_id: str, name: str, expires: str, signature: str, present: float
) -> None:
    """Return quietly when the link was made by `download_link` and has not expired.

    `present` is the time to compare with, in Unix seconds. Raises LinkRefused.
    """
    # Whoever altered a link must not learn from the answer which part was wrong, so the expiry comes second.
    valid_number = re.fullmatch(r"[0-9]{1,12}", expires, re.ASCII)
    moment = int(expires) if valid_number else 0
    wanted = _signature(secret, recording_id, name, moment)
    if not hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace")):
        raise LinkRefused("this download link is not valid; ask the API for the recording to get a new one")
    if present >= moment:
        raise LinkRefused("this download link has expired; ask the API for the recording to get a new one")


def _signature(secret: bytes, recording_id: str, name: str, expires: int) -> str:
    # The name comes last: it alone could hold a line break, and nothing may follow that could be mistaken.
    message = f"download\n{recording_id}\n{expires}\n{name}"
    return hmac.new(secret, message.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
