"""Descriptions and examples of fields in the OpenAPI document, for those whose model has none."""

from collections.abc import Mapping
from typing import Any, Final

_ID: Final = "8f3c2f0e-6f5d-4d36-9b0f-6a9e7f0c1d2e"
_TIME: Final = "2026-01-31T09:00:00.000Z"

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "access_key": "the id of the access key",
    "account_id": "the id of the Cloudflare account",
    "action": "the command for the recording",
    "attempts": "how often it was tried",
    "audio_config": "the separate audio file",
    "auth_method": "how the farm logs in: with a private key or a password",
    "bucket": "the bucket, container or, for SFTP, nothing",
    "bytes_per_hour": "bytes of the file for an hour of recording",
    "caller": "the organization or person that did it",
    "channel": "mono or stereo",
    "click": "CSS selector of the element to click",
    "code": "the kind of failure, stable, for programs; see docs/troubleshooting.md",
    "codec": "the codec",
    "created_at": "when it was created",
    "css": "CSS rules to add to the page",
    "delivery_id": "the id of the delivery, its header webhook-id",
    "domain": "the host and all below it; without it the page's host alone",
    "download_url_expiry": "when the links end",
    "duration_ms": "milliseconds until the answer, or until it failed",
    "dyte_bucket_config": "the same as realtimekit_bucket_config",
    "enabled": "whether it is in use",
    "encryption": "encryption at rest by the storage",
    "end_offset": "the number of the last entry of the page",
    "endpoint": "the URL of the server",
    "error": "what went wrong",
    "errors": "the same for Cloudflare's clients",
    "estimate": "what the recording will need",
    "event": "the kind of event",
    "events": "the events that are sent",
    "expiry": "when the link ends",
    "fault": "what broke, in one sentence",
    "file_name_prefix": "the beginning of the file's name",
    "fill": "CSS selector of the field to write into",
    "fps": "frames a second",
    "frame": "CSS selector of the iframe, or of several nested ones, the outermost first",
    "height": "height in pixels",
    "host": "the name or address of the server",
    "host_key": "the fingerprint of the server's key, as `ssh-keygen -l` shows it",
    "http_credentials": "user names and passwords of the page, without the passwords",
    "headers": "headers of the page's requests, without their values",
    "cookies": "cookies of the page, without their values",
    "id": "the id",
    "interactive_config": "makes an HLS file with ID3 tags in a .tar",
    "invoked_time": "when the client started it",
    "join": "the steps that join the meeting",
    "kms_key_id": "the id of the KMS key; without it the account's own key for S3",
    "live_streaming_config": "one live output, without its stream key",
    "max_seconds": "seconds of recorded time after which it stops",
    "meeting": "the meeting of the recording",
    "meeting_id": "the meeting",
    "message": "one sentence for people",
    "metadata": "metadata of the objects",
    "name": "the name",
    "ok": "whether files can be written there",
    "origin": "the origin they are for; without it the page's",
    "outcome": "the result of the attempt",
    "output_file_name": "the name of the file",
    "page_contract": "how the page says when to start and when it is over",
    "password": "the password, or the pass phrase of the private key",
    "position": "the corner of the picture",
    "priority": "the order in which waiting recordings get a slot",
    "private_key": "the private key, PEM or OpenSSH",
    "profile": "what the picture mostly shows",
    "realtimekit_bucket_config": "whether the farm keeps the files in its own store",
    "reason": "the reason",
    "recording_id": "the recording",
    "redis": "whether Redis accepts writes and keeps them",
    "region": "the region",
    "replay_of": "the log entry that is sent again",
    "retries": "how often it was connected again",
    "same_site": "as in the cookie's attribute SameSite",
    "secret": "the secret; it is never shown again",
    "per_page": "entries on a page",
    "session_id": "always null: the farm knows no sessions",
    "signature": "the signature of the link",
    "size": "the size in pixels",
    "sort_by": "the field to sort by",
    "sort_order": "DESC lists the newest first",
    "start_offset": "the number of the first entry of the page",
    "start_reason": "the client that started it",
    "state": "the state",
    "status": "the state of the recording",
    "stop_reason": "why it stopped; left out until then",
    "storage_config": "the customer's storage",
    "store": "whether the store takes files",
    "tags": "tags of the objects",
    "take": "the number of the take, counted from 0",
    "target": "`store`, or the kind of the customer's storage",
    "text": "the text to write",
    "time": "when it happened",
    "timeline": "all states, takes, faults and findings, the oldest first",
    "timestamp": "when it was sent",
    "title": "the meeting's id",
    "total_count": "how many entries there are",
    "type": "the kind",
    "updated_at": "when it was changed last",
    "url": "the URL",
    "user_Id": "the id of the organization or person",
    "username": "the user name",
    "value": "the value",
    "video_config": "the picture of the recording",
    "wait_for": "CSS selector of an element that must be visible",
    "wait_for_text": "text that must be visible",
    "watermark": "an image in a corner of the picture",
    "webhook_id": "the webhook",
    "webhooks": "up to 10 URLs that get the events of this recording",
    "width": "width in pixels",
}
"""By the name of the field."""

EXAMPLES: Final[Mapping[str, Any]] = {
    "account_id": "0123456789abcdef0123456789abcdef",
    "behind_seconds": 21.4,
    "bucket": "recordings",
    "bytes_per_hour": 622_000_000,
    "code": 422,
    "delivery_id": "msg_2b0c8e",
    "download_url": "https://farm.example.com/v2/recordings/…/download/demo.mp4?expires=…&signature=…",
    "endpoint": "https://s3.example.com",
    "file_name_prefix": "lesson_1",
    "file_size": 216_787,
    "finding": "no_sound",
    "host": "sftp.example.com",
    "host_key": "SHA256:Zs8m3KQe7vJzq0mN4xUuC1pYbTtRr5dWfGhIkLoPaSE",
    "id": _ID,
    "locale": "de-AT",
    "max_seconds": 3600,
    "meeting_id": "weekly",
    "message": "meeting weekly is already being recorded",
    "name": "recordings",
    "node": "node-1",
    "output_file_name": "weekly_1769850000000.mp4",
    "recording_id": _ID,
    "region": "eu-central-1",
    "rtmp_url": "rtmp://live.example.com/live2/KEY",
    "target": "store",
    "timezone": "Europe/Vienna",
    "title": "weekly",
    "uploaded_bytes": 25_165_824,
    "url": "https://meet.example.com/weekly",
    "webhook_id": _ID,
}
"""By the name of the field; others follow from their schema."""

_BY_FORMAT: Final = {"uuid": _ID, "date-time": _TIME, "uri": "https://example.com/", "password": "not-shown"}

BODIES: Final[Mapping[str, Any]] = {
    "AddOutput": {"url": "rtmp://live.example.com/live2/KEY"},
    "CheckStorage": {
        "storage_config": {
            "type": "aws",
            "bucket": "recordings",
            "region": "eu-central-1",
            "access_key": "AKIA…",
            "secret": "…",
        }
    },
    "CreateWebhook": {
        "name": "backend",
        "url": "https://example.com/hook",
        "events": ["recording.statusUpdate"],
    },
    "EditWebhook": {"enabled": False},
    "ControlRecording": {"action": "stop"},
    "PutStoragePreset": {
        "storage_config": {
            "type": "s3",
            "endpoint": "https://s3.example.com",
            "bucket": "recordings",
            "access_key": "key",
            "secret": "…",
        }
    },
    "RecordingDefaults": {"max_seconds": 7200, "video_config": {"width": 1920, "height": 1080}},
    "StartRecording": {
        "meeting_id": "weekly",
        "url": "https://meet.example.com/weekly",
        "max_seconds": 3600,
        "video_config": {"codec": "H264", "width": 1280, "height": 720},
        "webhooks": ["https://example.com/hook"],
    },
    "Upload": {"storage_config": {"type": "preset", "name": "archive"}},
}
"""An example of each body, by the name of its model."""


def example_of(name: str, schema: Mapping[str, Any]) -> Any:
    """An example of a field, by its name and schema; None if its type is another schema."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind, known = schema.get("type"), EXAMPLES.get(name)
    match kind:
        case "string":
            text = _BY_FORMAT.get(schema.get("format", ""))
            return known if isinstance(known, str) and text is None else text or name
        case "integer":
            return known if isinstance(known, int) else max(1, schema.get("minimum", 1))
        case "number":
            return float(known) if isinstance(known, int | float) else 1.0
        case "boolean":
            return True
        case _:
            return None
