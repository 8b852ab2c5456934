"""Two Redis streams of copies of recordings, for webhooks and for clients that follow events.

Keys
    farm:changes        stream: the changes of all organizations, each dispatched to webhooks once
    farm:events:{org}   stream: an organization's last changes, for clients that follow them

An entry has the field `recording` when the recording was added or changed its state: its record at that
moment, as one JSON object. In farm:changes an entry can instead have `record`, which is the same, and
`transfer`: the target of a transfer that has an event. Version 0.1 drops entries without `recording`.

The scripts in `farm.recording.records` write an entry together with the change itself, so no change is lost.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.transfers import Transfer, transfer_to

CHANGES_KEY: Final = "farm:changes"


class Change(NamedTuple):
    """A recording as it was after the change, and the transfer with an event; None for a change of state."""

    recording: Recording
    transfer: Transfer | None


def events_key(organization_id: str) -> str:
    """The key of an organization's stream."""
    return f"farm:events:{organization_id}"


def recording_of(fields: Mapping[bytes, bytes]) -> Recording:
    """The recording in an entry of farm:events. Raises KeyError, ValidationError."""
    return Recording.model_validate_json(fields[b"recording"])


def change_of(fields: Mapping[bytes, bytes]) -> Change:
    """The change in an entry of farm:changes. Raises KeyError, ValidationError."""
    if b"transfer" not in fields:
        return Change(recording_of(fields), None)
    recording = Recording.model_validate_json(fields[b"record"])
    target = fields[b"transfer"].decode()
    transfer = transfer_to(recording.transfers, target)
    if transfer is None or transfer.event is None:
        raise KeyError(target)
    return Change(recording, transfer)
