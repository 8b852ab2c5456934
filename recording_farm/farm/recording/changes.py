"""What has changed: two Redis streams of copies of recordings, written with every change of state.

Keys
    farm:changes        stream: all organizations' changes, each to be dispatched to webhooks once
    farm:events:{org}   stream: one organization's last changes, for whoever follows them

Both have one field, `recording`: the record at that moment, as one JSON object. The scripts in
`farm.recording.records` write them together with the change itself, so a change that happened is a change
that will be told.
"""

from collections.abc import Mapping
from typing import Final

from recording_farm.farm.recording.model import Recording

CHANGES_KEY: Final = "farm:changes"


def events_key(organization_id: str) -> str:
    """The key of an organization's stream."""
    return f"farm:events:{organization_id}"


def recording_of(fields: Mapping[bytes, bytes]) -> Recording:
    """The recording in an entry of a stream, as it was after the change."""
    return Recording.model_validate_json(fields[b"recording"])
