"""Hints: how to come into a meeting on a page that knows nothing of recorders, and what not to show of it."""

from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Selector = Annotated[str, StringConstraints(min_length=1, max_length=500)]
"""A CSS selector, or one of Playwright's, such as `text=Join`."""


class _Hint(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Click(_Hint):
    """Click the first element that a selector finds."""

    click: Selector


class Fill(_Hint):
    """Write a text into the first field that a selector finds."""

    fill: Selector
    text: Annotated[str, StringConstraints(max_length=500)]


class WaitFor(_Hint):
    """Wait until an element is visible."""

    wait_for: Selector


class PageHints(_Hint):
    """What to do on a page once it has loaded, in this order: `join`, `css`, `wait_for`, `settle_seconds`."""

    join: Annotated[tuple[Click | Fill | WaitFor, ...], Field(max_length=20)] = ()
    css: Annotated[str, StringConstraints(max_length=10_000)] | None = None
    """Rules that are added to the page's, to hide its controls for instance."""
    wait_for: Selector | None = None
    """The recording begins when this is visible."""
    settle_seconds: Annotated[float, Field(ge=0, le=60)] = 0


# Of Jitsi Meet: its configuration can be overridden in the fragment (`config.…`), so nobody has to click.
_JITSI_FRAGMENT = (
    "config.prejoinConfig.enabled=false&config.startWithAudioMuted=true&config.startWithVideoMuted=true"
    "&config.disableDeepLinking=true&config.disableInitialGUM=true&config.toolbarButtons=[]"
    "&config.notifications=[]&config.hideConferenceSubject=true&userInfo.displayName=%22Recorder%22"
)
JITSI = PageHints(
    css="#new-toolbox, .notification-area, .subject, #localVideoWrapper, .filmstrip__toolbar, .toolbox-icon "
    "{ display: none !important }",
    wait_for="#videospace, #largeVideoContainer",
    settle_seconds=1,
)


def is_jitsi(url: str, hosts: tuple[str, ...]) -> bool:
    """Whether a page is a Jitsi meeting, by its host."""
    return (urlsplit(url).hostname or "").lower() in hosts


def jitsi_url(url: str) -> str:
    """The URL that joins a Jitsi meeting without asking anything; what its fragment says already wins."""
    parts = urlsplit(url)
    fragment = "&".join(part for part in (_JITSI_FRAGMENT, parts.fragment) if part)
    return urlunsplit(parts._replace(fragment=fragment))
