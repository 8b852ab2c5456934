"""Tokens that let the recorder into a meeting: JSON Web Tokens signed with HMAC-SHA256."""

from datetime import timedelta
from typing import Any, Final

import jwt

from recording_farm.farm.clock import now
from recording_farm.farm.recording.model import Recording

ISSUER: Final = "recording-farm"
"""The claim `iss` of tokens that the farm makes for pages it records."""

_VALID: Final = timedelta(hours=49)
"""At most a day in the queue, a day of recording, and an hour for clocks that differ."""


def recorder_token(recording: Recording, secret: str) -> str:
    """The `authToken` of the recording SDK's contract; its page reads the meeting's id from it."""
    claims = {"meetingId": recording.meeting_id, "recorder": True, "id": str(recording.id)}
    return _signed({"iss": ISSUER, **claims}, secret)


def livekit_token(recording: Recording, key: str, secret: str) -> str:
    """A token for the LiveKit room named like the meeting, as LiveKit's own recorder gets it.

    Hidden, subscribes and publishes nothing (claims of LiveKit's access tokens).
    """
    identity = f"recorder-{recording.id}"
    grant = {
        "room": recording.meeting_id,
        "roomJoin": True,
        "canSubscribe": True,
        "canPublish": False,
        "canPublishData": False,
        "hidden": True,
        "recorder": True,
    }
    return _signed({"iss": key, "sub": identity, "name": identity, "kind": "egress", "video": grant}, secret)


def _signed(claims: dict[str, Any], secret: str) -> str:
    present = now()
    times = {"iat": present, "nbf": present - timedelta(minutes=1), "exp": present + _VALID}
    return jwt.encode({**claims, **times}, secret, algorithm="HS256")
