"""`POST /meetings/{meeting_id}/host_link`: a link that makes its visitor the host of a built-in meeting."""

from datetime import UTC, datetime
from typing import Final

from pydantic import AwareDatetime, BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.auth import organization_of
from recording_farm.api.context import context_of
from recording_farm.api.meeting.tokens import host_address
from recording_farm.api.operations import Operation
from recording_farm.api.schema.requests import check_meeting_id
from recording_farm.api.schema.responses import success


class HostLink(BaseModel):
    """A link that makes its visitor the host of a meeting."""

    url: str = Field(description="a secret of the host; guests join with the part before the #")
    expiry: AwareDatetime


async def _make(request: Request) -> Response:
    context = context_of(request)
    meeting_id = check_meeting_id(request.path_params["meeting_id"])
    url, expires = host_address(context.settings, context.link_secret, meeting_id, organization_of(request))
    return success(HostLink(url=url, expiry=datetime.fromtimestamp(expires, UTC)))


host_link_operations: Final = (
    Operation(
        "make_host_link",
        "POST",
        "/meetings/{meeting_id:path}/host_link",
        _make,
        "Make a host link of a built-in meeting: the host may record it, and end it for everyone",
        "meetings",
        answer=HostLink,
        errors=(422,),
    ),
)
