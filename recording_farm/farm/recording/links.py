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

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import LinkRefusedError
from recording_farm.farm.recording.files import file_of, files_expire_at, is_in_store, playlist_name
from recording_farm.farm.recording.model import FileKind, Recording
from recording_farm.farm.recording.outputs import Output
from recording_farm.farm.storage.store import Store

DOWNLOAD_PATH: Final = "/v2/recordings/{recording_id}/download/{name}"
"""Where files are served."""


_MAX_OF_A_PLACE: Final = timedelta(days=7)
"""How long a link of S3's can be valid at most."""


class DownloadLink(NamedTuple):
    """A whole link to a recording's file, and until when it is valid: no longer than the file is there."""

    url: str
    expiry: datetime


class Links:
    """Makes links to the files of recordings."""

    def __init__(self, settings: Settings, store: Store, secret: bytes) -> None:
        """`secret` signs those links that lead to the farm itself."""
        self._settings = settings
        self._store = store
        self._secret = secret

    def video(self, recording: Recording) -> DownloadLink | None:
        """A fresh link to the video, None while the store has none."""
        return self._to(recording, FileKind.VIDEO)

    def audio(self, recording: Recording) -> DownloadLink | None:
        """A fresh link to the audio file, None while the store has none."""
        return self._to(recording, FileKind.AUDIO)

    def files_expire_at(self, recording: Recording) -> datetime | None:
        """When the store deletes the recording's files (FARM_RETENTION); see `farm.recording.files`."""
        return files_expire_at(recording, self._settings.retention)

    def playlist(self, recording: Recording, output: Output) -> DownloadLink | None:
        """A fresh link to the playlist of an HLS output, which names its segments by links in turn.

        None while the store has none of it. The farm serves it itself, wherever the store is.
        """
        if not output.segments or not recording.keep_copy or recording.expired_time is not None:
            return None
        expiry = (now() + timedelta(seconds=self._settings.link_seconds)).replace(microsecond=0)
        link = download_link(self._secret, recording.id, playlist_name(recording), int(expiry.timestamp()))
        return DownloadLink(self._settings.base_url + link, expiry)

    def segment(self, recording_id: UUID | str, name: str, expires: int) -> str:
        """A link to a segment, valid as long as that to its playlist (Unix seconds)."""
        seconds = max(1, expires - int(now().timestamp()))
        url = self._store.link(recording_id, name, seconds)
        return url or self._settings.base_url + download_link(
            self._secret, UUID(str(recording_id)), name, expires
        )

    def _to(self, recording: Recording, kind: FileKind) -> DownloadLink | None:
        file = file_of(recording, kind)
        if file is None or not is_in_store(recording):
            return None
        expiry = (now() + timedelta(seconds=self._settings.link_seconds)).replace(microsecond=0)
        deletion = self.files_expire_at(recording)
        if deletion is not None:
            expiry = min(expiry, deletion)
        seconds = max(1, int((expiry - now()).total_seconds()))
        url = self._store.link(recording.id, file.name, seconds)
        if url is not None:
            return DownloadLink(url, min(expiry, now().replace(microsecond=0) + _MAX_OF_A_PLACE))
        link = download_link(self._secret, recording.id, file.name, int(expiry.timestamp()))
        return DownloadLink(self._settings.base_url + link, expiry)


def download_link(secret: bytes, recording_id: UUID, name: str, expires: int) -> str:
    """Path and query of a link to the file `name`, valid until `expires` (Unix seconds)."""
    path = DOWNLOAD_PATH.format(recording_id=recording_id, name=quote(name, safe=""))
    query = {"expires": expires, "signature": _signature(secret, str(recording_id), name, expires)}
    return f"{path}?{urlencode(query)}"


def verify_link(
    secret: bytes, recording_id: str, name: str, expires: str, signature: str, present: float
) -> None:
    """Return quietly when the link was made by `download_link` and has not expired.

    `present` is the time to compare with, in Unix seconds. Raises LinkRefusedError.
    """
    # Whoever altered a link must not learn from the answer which part was wrong, so the expiry comes second.
    valid_number = re.fullmatch(r"[0-9]{1,12}", expires, re.ASCII)
    moment = int(expires) if valid_number else 0
    wanted = _signature(secret, recording_id, name, moment)
    if not hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace")):
        raise LinkRefusedError(
            "this download link is not valid; ask the API for the recording to get a new one"
        )
    if present >= moment:
        raise LinkRefusedError(
            "this download link has expired; ask the API for the recording to get a new one"
        )


def _signature(secret: bytes, recording_id: str, name: str, expires: int) -> str:
    # The name comes last: it alone could hold a line break, and nothing may follow that could be mistaken.
    message = f"download\n{recording_id}\n{expires}\n{name}"
    return hmac.new(secret, message.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
