"""How a page is opened: the URL parameters of its contract, with tokens, and the hints to join.

What a client sends for it may be secret (a token, a meeting's password): it is kept sealed and never shown.
"""

import base64
import json
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

from recording_farm.browser_bot.network.addresses import is_under
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.hints import JITSI, PageHints, is_jitsi, jitsi_url
from recording_farm.browser_bot.page.site_access import NO_ACCESS, Cookies, Credentials, Headers, SiteAccess
from recording_farm.browser_bot.stage.environment import Environment
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.pages.tokens import livekit_token, recorder_token
from recording_farm.farm.recording.model import Recording

PAGE_ACCESS: Final = "page"
"""Its name among the recording's sealed secrets; no transfer has this name."""


AuthToken = Annotated[str, StringConstraints(min_length=1, max_length=8192)]
Layout = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class PageAccess(BaseModel):
    """What a client sends to open the page of a recording: token, layout, hints, access to its site."""

    model_config = ConfigDict(frozen=True)

    auth_token: AuthToken | None = None
    layout: Layout | None = None
    page_hints: PageHints | None = None
    http_credentials: Credentials | None = None
    headers: Headers | None = None
    cookies: Cookies | None = None

    @property
    def to_site(self) -> SiteAccess:
        """Passwords, headers and cookies for the page's server."""
        return SiteAccess(tuple(self.http_credentials or ()), self.headers or {}, tuple(self.cookies or ()))


@dataclass(frozen=True)
class PageOpening:
    """The URL to open, the secrets in it, the hints to join, and the access to the page's server."""

    url: str
    secrets: tuple[str, ...]
    hints: PageHints
    access: SiteAccess = NO_ACCESS


def seal_access(sealer: Sealer, recording_id: UUID, access: PageAccess) -> str:
    """Seal what a client sent."""
    return sealer.seal(access.model_dump_json(exclude_none=True), _context(recording_id))


def open_access(sealer: Sealer, recording_id: UUID, sealed: str) -> PageAccess:
    """Open what a client sent.

    Raises SettingsError if it was sealed with another secret or for another recording.
    """
    return PageAccess.model_validate_json(sealer.open(sealed, _context(recording_id)))


def _context(recording_id: UUID) -> str:
    return f"recording {recording_id}, access to its page"


def contract_of(recording: Recording, settings: Settings) -> PageContract:
    """The page contract of a recording, as far as the farm knows it in advance.

    The built-in meeting's pages signal in the console, later than they have loaded.
    """
    if recording.page_contract is PageContract.AUTO and is_under(recording.url, settings.built_in_pages):
        return PageContract.CONSOLE
    return recording.page_contract


def environment_of(recording: Recording | None, settings: Settings) -> Environment:
    """Language, time zone and devices for a page; None: the defaults of the farm."""
    if recording is None:
        return Environment(settings.fake_devices, settings.locale, settings.timezone)
    return Environment(settings.fake_devices, recording.locale, recording.timezone)


def ignored_by_page(url: str, contract: PageContract, settings: Settings) -> frozenset[str]:
    """Fields of a request that have no effect with this page, as far as that is known in advance."""
    is_built_in = is_under(url, settings.built_in_meetings)
    ignored = set()
    if contract is not PageContract.CONSOLE:
        ignored.add("layout")
    if contract is PageContract.PLAIN:
        takes_token = False
    elif contract is PageContract.CONSOLE:
        takes_token = _has_livekit(settings)
    else:
        takes_token = not is_built_in and not is_jitsi(url, settings.jitsi_hosts)
    if not takes_token:
        ignored.add("auth_token")
    # Only a page with an SDK's socket has texts to put into the recording.
    if contract in {PageContract.PLAIN, PageContract.CONSOLE} or is_built_in:
        ignored.add("interactive_config")
    return frozenset(ignored)


def opening_of(recording: Recording, access: PageAccess, settings: Settings) -> PageOpening:
    """How the page of a recording is opened."""
    opening = _opening_by_contract(recording, access, settings)
    secrets = dict.fromkeys((*opening.secrets, *access.to_site.secrets))
    return replace(opening, secrets=tuple(secrets), access=access.to_site)


def _opening_by_contract(recording: Recording, access: PageAccess, settings: Settings) -> PageOpening:
    hints = access.page_hints or PageHints()
    if recording.page_contract is PageContract.CONSOLE:
        parameters = _livekit_parameters(recording, access, settings)
    elif recording.page_contract is PageContract.PLAIN or is_under(recording.url, settings.built_in_meetings):
        parameters = {}
    elif is_jitsi(recording.url, settings.jitsi_hosts):
        return PageOpening(jitsi_url(recording.url), (), access.page_hints or JITSI)
    else:
        parameters = _sdk_parameters(recording, access, settings)
    secrets = tuple(parameters[name] for name in ("authToken", "token") if name in parameters)
    # The token of the built-in meeting's recorder is in the fragment.
    fragment = urlsplit(recording.url).fragment
    if is_under(recording.url, settings.built_in_meetings) and fragment:
        secrets = (*secrets, fragment.partition("=")[2])
    texts = tuple(step.text for step in hints.join if hasattr(step, "text") and step.text)
    return PageOpening(
        with_parameters(recording.url, parameters), tuple(filter(None, (*secrets, *texts))), hints
    )


def _sdk_parameters(recording: Recording, access: PageAccess, settings: Settings) -> dict[str, str]:
    """What a page with the recording SDK reads: `authToken`, and `config`, JSON in Base64."""
    token = access.auth_token
    if token is None and settings.page_secret is not None:
        token = recorder_token(recording, settings.page_secret.get_secret_value())
    config = base64.b64encode(json.dumps(_sdk_config(recording)).encode()).decode()
    return ({"authToken": token} if token else {}) | {"config": config}


def _sdk_config(recording: Recording) -> dict[str, Any]:
    mark = recording.watermark
    if mark is None:
        return {}
    size = {name: value for name, value in (("width", mark.width), ("height", mark.height)) if value}
    return {"watermark": {"enabled": True, "url": mark.url, "position": mark.position, "size": size}}


def _has_livekit(settings: Settings) -> bool:
    return bool(settings.livekit_url and settings.livekit_key and settings.livekit_secret)


def _livekit_parameters(recording: Recording, access: PageAccess, settings: Settings) -> dict[str, str]:
    """What a LiveKit room template reads; nothing unless a LiveKit server is configured."""
    parameters = {"layout": access.layout} if access.layout else {}
    if settings.livekit_url and settings.livekit_key and settings.livekit_secret:
        token = livekit_token(recording, settings.livekit_key, settings.livekit_secret.get_secret_value())
        parameters |= {"url": settings.livekit_url, "token": access.auth_token or token}
    return parameters


def with_parameters(url: str, parameters: dict[str, str]) -> str:
    """The URL with parameters appended to its own; the fragment stays the last part."""
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, urlencode(parameters)) if part)
    return urlunsplit(parts._replace(query=query))
