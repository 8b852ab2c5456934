"""ICE servers of the built-in meeting: STUN and TURN servers, with credentials for TURN.

With FARM_TURN_SECRET each member gets credentials of its own that expire, as coturn's `use-auth-secret` and
the Internet-Draft "A REST API For Access To TURN Services" define them: the username is `expiry:member`, the
password is the Base64 text of an HMAC-SHA1 over it.
"""

import base64
import hashlib
import hmac
from typing import Final

from recording_farm.farm.config.settings import Settings

TURN_SECONDS: Final = 86400
"""Lifetime of credentials: the longest recording, because a TURN server checks them again at each refresh."""


class IceServers:
    """Makes the `iceServers` of an RTCPeerConnection."""

    def __init__(self, settings: Settings) -> None:
        """Read servers and secrets from the settings."""
        self._urls = settings.ice_servers
        self._secret = settings.turn_secret
        self._user = settings.turn_user
        self._password = settings.turn_password

    def for_member(self, member_id: str, present: float) -> list[dict[str, str]]:
        """Return the servers for one member; `present` is the current time in Unix seconds."""
        credentials = self._credentials(member_id, present)
        return [{"urls": url, **(credentials if url.startswith("turn") else {})} for url in self._urls]

    def _credentials(self, member_id: str, present: float) -> dict[str, str]:
        if self._secret is not None:
            return turn_credentials(
                self._secret.get_secret_value(), f"{int(present) + TURN_SECONDS}:{member_id}"
            )
        if self._user is not None and self._password is not None:
            return {"username": self._user, "credential": self._password.get_secret_value()}
        return {}


def turn_credentials(secret: str, username: str) -> dict[str, str]:
    """Return username and password for a TURN server that knows `secret`."""
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return {"username": username, "credential": base64.b64encode(digest).decode()}
