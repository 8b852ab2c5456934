"""A start request: checks which fields its sender may set, and merges the defaults."""

from dataclasses import dataclass
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from recording_farm.api.auth import is_participant, only_meeting, organization_of
from recording_farm.api.context import context_of
from recording_farm.api.schema.requests import StartRecording, fields_set, read_request, with_defaults
from recording_farm.farm.errors import InvalidRequestError, NotPermittedError

_PARTICIPANTS: Final = frozenset(
    {"meeting_id", "allow_multiple_recordings", "file_name_prefix", "video_config"}
)
_PARTICIPANTS_VIDEO: Final = frozenset({"codec", "width", "height"})
"""The fields that participants may set, at the top and in `video_config`: those of the browser clients.

With another `url` the farm would open any page, with a token that lets it into the meeting unseen.
"""


@dataclass(frozen=True)
class StartRequest:
    """The request of a client, with its defaults."""

    sent: StartRecording
    """The request as sent."""
    wanted: StartRecording
    """The request with the defaults of the meeting and the organization."""
    page: str
    """The page to record: the `url`, or the farm's page of the meeting."""

    def field(self, name: str) -> str:
        """The name of a field in messages; it tells when the value comes from the defaults."""
        was_sent = getattr(self.sent, name) is not None
        return f'"{name}"' if was_sent else f'"{name}" in the defaults (recording_config)'

    @property
    def page_field(self) -> str:
        """The field that names the page."""
        return '"meeting_id"' if self.wanted.url is None else self.field("url")


async def read_start(request: Request) -> StartRequest:
    """Read an admitted request. Raises FarmError, redis.RedisError."""
    context = context_of(request)
    sent = await read_request(request, StartRecording)
    _check_sender(request, sent)
    meeting_page = context.settings.page_of(sent.meeting_id)
    defaults = await run_in_threadpool(
        context.recording_configs.defaults, organization_of(request), sent.meeting_id
    )
    wanted = with_defaults(sent, defaults, meeting_page)
    return StartRequest(sent, wanted, wanted.url or meeting_page)


def _check_sender(request: Request, sent: StartRecording) -> None:
    """Check that the sender may start a recording of this meeting with these fields.

    Raises InvalidRequestError, NotPermittedError.
    """
    meeting_id = only_meeting(request)
    if meeting_id is None:
        return
    fields = fields_set(sent)
    if not is_participant(request):
        if fields != {"meeting_id": meeting_id}:
            raise InvalidRequestError("a host can set meeting_id and nothing else")
        return
    if sent.meeting_id != meeting_id:
        raise NotPermittedError(f'"meeting_id": this token is only valid for meeting {meeting_id}')
    video = fields.get("video_config", {})
    refused = sorted(fields.keys() - _PARTICIPANTS)
    if isinstance(video, dict):
        refused += [f"video_config.{name}" for name in sorted(video.keys() - _PARTICIPANTS_VIDEO)]
    if refused:
        raise NotPermittedError(f'"{refused[0]}": needs an API key; a participant cannot set it')
