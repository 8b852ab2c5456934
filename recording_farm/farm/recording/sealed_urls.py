"""The URLs in a recording's record, sealed: of its page, watermark and webhooks. Their queries hold tokens.

Records in Redis, the streams of changes and the copies in spools have them sealed. Only programs that use a
URL open it: the recorder its page, the sender its webhook, the API what it shows to the organization.
"""

from collections.abc import Callable
from uuid import UUID

from recording_farm.farm.credentials.sealed_texts import open_text, seal_text
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.errors import SettingsError
from recording_farm.farm.recording.model import Recording


def seal_urls(recording: Recording, sealer: Sealer) -> Recording:
    """The recording with sealed URLs, as it is stored."""
    return _with_urls(recording, lambda url: seal_text(sealer, url, _context(recording.id)))


def open_urls(recording: Recording, sealer: Sealer) -> Recording:
    """The recording with URLs that can be opened. Raises SettingsError with another key."""
    return _with_urls(recording, lambda url: open_text(sealer, url, _context(recording.id)))


def show_urls(recording: Recording, sealer: Sealer) -> Recording:
    """The recording with URLs to show; empty ones with another key, so that lists stay readable."""
    try:
        return open_urls(recording, sealer)
    except SettingsError:
        return _with_urls(recording, lambda _: "").model_copy(update={"webhooks": ()})


def seal_webhook_url(url: str, recording_id: UUID, sealer: Sealer) -> str:
    """The URL of a recording's own webhook, as a delivery stores it."""
    return seal_text(sealer, url, _context(recording_id))


def open_webhook_url(url: str, recording_id: UUID, sealer: Sealer) -> str:
    """The URL that a delivery to a recording's own webhook goes to. Raises SettingsError with another key."""
    return open_text(sealer, url, _context(recording_id))


def _with_urls(recording: Recording, change: Callable[[str], str]) -> Recording:
    mark = recording.watermark
    return recording.model_copy(
        update={
            "url": change(recording.url),
            "webhooks": tuple(map(change, recording.webhooks)),
            "watermark": mark and mark.model_copy(update={"url": change(mark.url)}),
        }
    )


def _context(recording_id: UUID) -> str:
    return f"the URLs of recording {recording_id}"
