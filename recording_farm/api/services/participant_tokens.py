"""Tokens of a meeting's participants, which browser clients of the recording API send as Bearer tokens.

A token is a JSON Web Token with `meetingId`, `participantId`, `orgId` and `exp`, with which
`@dytesdk/web-core` and `@cloudflare/realtimekit` join a meeting. It is signed with FARM_PAGE_SECRET (HS256),
or with a key of the set at FARM_PARTICIPANT_JWKS_URL (RS256, ES256). Its algorithm decides between the two;
a key is never used with another algorithm.
"""

import hashlib
from collections.abc import Collection
from typing import Annotated, Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from recording_farm.api.http_errors import UnauthorizedError
from recording_farm.api.services.participant_keys import ParticipantKeys
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import ApiKey
from recording_farm.farm.pages.tokens import ISSUER
from recording_farm.farm.recording.model import Caller

_LEEWAY_SECONDS: Final = 30
"""Allowed difference from the clock of the token's issuer."""

_BY_SECRET: Final = "HS256"  # noqa: S105 - the name of the algorithm
_BY_KEY: Final = ("RS256", "ES256")

_Id = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Claims(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    meeting_id: Annotated[_Id, Field(alias="meetingId")]
    participant_id: Annotated[_Id | None, Field(alias="participantId")] = None
    subject: Annotated[_Id | None, Field(alias="sub")] = None
    organization: Annotated[_Id | None, Field(alias="orgId")] = None
    name: Annotated[str, StringConstraints(max_length=256)] | None = None


class Participant(BaseModel):
    """One participant of one meeting, the sender of a request with such a token."""

    model_config = ConfigDict(frozen=True)

    organization_id: str
    """The farm's organization, which owns the recordings."""
    meeting_id: str
    id: str | None
    """None if the token has no id; all participants of the meeting without an id count as one."""
    name: str | None

    @property
    def caller(self) -> Caller:
        """The participant as the one who started or stopped a recording."""
        return Caller(type="USER", user_id=self.id, name=self.name)

    @property
    def key(self) -> ApiKey:
        """A key for rate limits in place of an API key: one for all tokens of the participant."""
        who = "\0".join((self.organization_id, self.meeting_id, self.id or ""))
        digest = hashlib.sha256(who.encode()).hexdigest()
        return ApiKey(id=f"participant:{digest[:16]}", organization_id=self.organization_id, hash=digest)


class ParticipantTokens:
    """Verifies tokens, as configured by the settings."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is fetched yet."""
        secret, url = settings.page_secret, settings.participant_jwks_url
        self._secret = secret.get_secret_value() if secret else None
        self._keys = ParticipantKeys(url) if url else None
        self._organizations = dict(settings.participant_organizations)

    def may_be(self, text: str) -> bool:
        """Whether a Bearer token looks like a JSON Web Token, and the settings accept these."""
        has_keys = self._secret is not None or self._keys is not None
        return has_keys and text.startswith("eyJ") and text.count(".") == 2

    async def read(self, text: str, organizations: Collection[str]) -> Participant:
        """Verify a token and return its participant; `organizations` are those of the farm.

        Raises UnauthorizedError, KeysUnavailableError.
        """
        content, algorithm = await self._verified(text)
        if content.get("iss") == ISSUER or content.get("recorder"):
            # The recorded page has this token, and strangers may have made that page.
            raise UnauthorizedError("this is a recorder's token; it opens the page, not the API")
        try:
            claims = _Claims.model_validate(content)
        except ValidationError as error:
            names = sorted({str(problem["loc"][0]) for problem in error.errors()})
            raise UnauthorizedError(
                f"the token's claim {names[0]} is missing or not valid; "
                "a participant's token needs meetingId, participantId and exp"
            ) from None
        organization = self._organization(claims.organization, organizations, algorithm)
        return Participant(
            organization_id=organization,
            meeting_id=claims.meeting_id,
            id=claims.participant_id or claims.subject,
            name=claims.name,
        )

    def _organization(self, named: str | None, known: Collection[str], algorithm: str) -> str:
        """The farm's organization; a token signed with the farm's own secret need not name the only one."""
        meant = self._organizations.get(named, named) if named is not None else None
        if meant is not None and meant in known:
            return meant
        if algorithm == _BY_SECRET and len(known) == 1:
            return next(iter(known))
        raise UnauthorizedError(
            "the token's claim orgId is not an organization of this farm; "
            "map it with FARM_PARTICIPANT_ORGANIZATIONS"
        )

    async def _verified(self, text: str) -> tuple[dict[str, Any], str]:
        """The content of a token with a good signature that is valid now, and its algorithm."""
        try:
            header = jwt.get_unverified_header(text)
        except jwt.PyJWTError:
            raise UnauthorizedError("the token cannot be read") from None
        algorithm, key_id = str(header.get("alg")), header.get("kid")
        for key in await self._candidates(algorithm, key_id if isinstance(key_id, str) else None):
            try:
                content: dict[str, Any] = jwt.decode(
                    text,
                    key,
                    algorithms=[algorithm],
                    leeway=_LEEWAY_SECONDS,
                    # Tokens are made for the meeting's service, so the audience is not the farm.
                    options={"require": ["exp"], "verify_aud": False, "verify_sub": False},
                )
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, OverflowError) as error:
                raise UnauthorizedError(_problem(error)) from None
            return content, algorithm
        raise UnauthorizedError("the token's signature does not match any trusted key")

    async def _candidates(
        self, algorithm: str, key_id: str | None
    ) -> Collection[str | RSAPublicKey | EllipticCurvePublicKey]:
        if algorithm == _BY_SECRET and self._secret is not None:
            return [self._secret]
        if algorithm in _BY_KEY and self._keys is not None:
            return await self._keys.find(key_id, algorithm)
        return []


def _problem(error: Exception) -> str:
    match error:
        case jwt.ExpiredSignatureError():
            return "the token has expired"
        case jwt.ImmatureSignatureError():
            return "the token is not valid yet"
        case jwt.MissingRequiredClaimError():
            return f"the token's claim {error.claim} is missing"
        case _:
            return "the token cannot be read"
