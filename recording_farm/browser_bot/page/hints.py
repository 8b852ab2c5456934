"""Page hints: the steps to join a meeting, and CSS to add, on a page without support for recorders."""

from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from recording_farm.browser_bot.network.host_names import normalize_host

MAX_FRAMES = 5

Selector = Annotated[str, StringConstraints(min_length=1, max_length=500)]
"""A CSS selector or a Playwright selector such as `text=Join`; both pierce open shadow roots."""


class _Hint(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Step(_Hint):
    frame: Selector | Annotated[list[Selector], Field(min_length=1, max_length=MAX_FRAMES)] | None = None
    """The iframe that contains the element; for nested iframes all of them, the outermost first."""
    optional: bool = False
    """Skip the step if its element does not appear within 3 s, such as a banner that is not always shown."""


class Click(_Step):
    """Click the first visible element that a selector matches."""

    click: Selector


class Fill(_Step):
    """Fill a text into the first visible field that a selector matches."""

    fill: Selector
    text: Annotated[str, StringConstraints(max_length=500)]


class WaitFor(_Step):
    """Wait until an element is visible."""

    wait_for: Selector


class WaitForText(_Step):
    """Wait until a text is visible in any element, ignoring case."""

    wait_for_text: Annotated[str, StringConstraints(min_length=1, max_length=500)]


Step = Click | Fill | WaitFor | WaitForText


def is_action(step: Step) -> bool:
    """Whether a step clicks or fills, rather than waits."""
    return isinstance(step, Click | Fill)


def frame_path(step: Step) -> list[str]:
    """Return the selectors of the iframes around a step's element, the outermost first."""
    if step.frame is None:
        return []
    return [step.frame] if isinstance(step.frame, str) else list(step.frame)


def describe_step(step: Step) -> str:
    """Describe a step for errors, without the text that it fills in."""
    match step:
        case Click(click=selector) | Fill(fill=selector) | WaitFor(wait_for=selector):
            return f"the hint {selector!r}"
        case WaitForText(wait_for_text=text):
            return f"the hinted text {text!r}"


class PageHints(_Hint):
    """What to do on a page once it has loaded, in this order: `join`, `css`, `wait_for`, `settle_seconds`."""

    join: Annotated[list[Step], Field(max_length=20)] = []
    css: Annotated[str, StringConstraints(max_length=10_000)] | None = None
    """CSS rules to add to the page, for example to hide controls."""
    wait_for: Selector | None = None
    """The recording begins when this is visible."""
    settle_seconds: Annotated[float, Field(ge=0, le=60)] = 0


NO_HINTS = PageHints()


# Jitsi Meet's configuration can be overridden in the fragment (`config.…`), so no clicks are needed.
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
    """Whether the URL's host is one of the Jitsi `hosts`."""
    try:
        return normalize_host(urlsplit(url).hostname or "") in hosts
    except ValueError:
        return False


def jitsi_url(url: str) -> str:
    """Return the URL that joins a Jitsi meeting without a prejoin page; settings in its fragment win."""
    parts = urlsplit(url)
    fragment = "&".join(part for part in (_JITSI_FRAGMENT, parts.fragment) if part)
    return urlunsplit(parts._replace(fragment=fragment))
