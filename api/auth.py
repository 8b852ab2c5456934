"""Who asks: HTTP Basic credentials, organisation and API key."""

import base64

from starlette.requests import Request

from api.context import context_of
from farm.errors import Unauthorized

CHALLENGE = {"WWW-Authenticate": 'Basic realm="recording-farm", charset="UTF-8"'}
"""The header of every answer with the status 401."""


def organization_of(request: Request) -> str:
    """The organisation whose API key the request carries.

    Raises Unauthorized.
    """
    organization_id, key = _credentials(request.headers.get("authorization", ""))
    if not context_of(request).keys.authenticate(organization_id, key):
        raise Unauthorized("unknown organisation or wrong API key")
    return organization_id


def _credentials(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise Unauthorized("authenticate with HTTP Basic: the organisation as user, the API key as password")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        raise Unauthorized("the Basic credentials are not base64 of organisation:key") from None
    organization_id, _, key = decoded.partition(":")
    return organization_id, key
