"""The recording options in two forms: start a recording, and the defaults of an organization."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from recording_farm.api.portal.visitor import Form
from recording_farm.encoder.formats import Profile

Choice = tuple[str, str]
"""An option of a select: its value and its label."""

SIZES: Final[list[Choice]] = [
    (size, size) for size in ("1280x720", "1920x1080", "854x480", "720x1280", "1080x1920")
]
"""Sizes that the forms offer; the API accepts others."""

PROFILES: Final[list[Choice]] = [
    (Profile.MIXED, "mixed content"),
    (Profile.TALK, "faces"),
    (Profile.TEXT, "slides, documents, code"),
    (Profile.MOTION, "motion (films, games)"),
]
"""What the page mostly shows; it decides the bit rate."""

KEEP_STORAGE: Final = "keep"
"""The choice to keep a storage that was set by the API and is no preset."""

_PRESET: Final = "preset:"

_NUMBERS: Final = ("max_seconds",)
_TEXTS: Final = ("url", "file_name_prefix", "page_contract", "priority")


def config_of(form: Form, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The fields of a form as the body of the API; empty fields are left out.

    Values set `before` stay where the form has no field for them.
    """
    before = before or {}
    covered = {*_NUMBERS, *_TEXTS, "storage_config"}
    config = {name: value for name, value in before.items() if name not in covered}
    config |= {name: form[name] for name in _TEXTS if name in form}
    config |= {name: number(form[name]) for name in _NUMBERS if name in form}
    config["video_config"] = _video(form, dict(before.get("video_config") or {}))
    config["audio_config"] = _audio(form)
    config["storage_config"] = _storage(form, before)
    return {name: value for name, value in config.items() if value not in (None, {})}


def start_body(form: Form) -> dict[str, Any]:
    """The body of POST /recordings for the start form."""
    body = config_of(form) | {"meeting_id": form.get("meeting_id", "")}
    video: dict[str, Any] = {"profile": form["profile"]} if "profile" in form else {}
    if "watermark" in form:
        video["watermark"] = {"url": form["watermark"]}
    if video:
        body["video_config"] = body.get("video_config", {}) | video
    outputs: list[dict[str, Any]] = [{"url": url} for url in form.get("outputs", "").split()]
    if "hls" in form:
        outputs.append({"type": "HLS"})
    if outputs:
        body["outputs"] = outputs
    if "webhooks" in form:
        body["webhooks"] = form["webhooks"].split()
    if "allow_multiple_recordings" in form:
        body["allow_multiple_recordings"] = True
    return body


def preset_choices(presets: Sequence[Mapping[str, Any]]) -> list[Choice]:
    """An organization's storage presets as options."""
    return [(f"{_PRESET}{preset['name']}", preset["name"]) for preset in presets]


def number(text: str) -> int | str:
    """A whole number; other text unchanged, so that the API rejects it with its own message."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def size_of(video: Mapping[str, Any]) -> str:
    """The size as the form writes it; empty if it is not set."""
    return f"{video['width']}x{video['height']}" if "width" in video and "height" in video else ""


def _video(form: Form, video: dict[str, Any]) -> dict[str, Any]:
    for name in ("codec", "width", "height", "fps"):
        video.pop(name, None)
    if "codec" in form:
        video["codec"] = form["codec"]
    if "fps" in form:
        video["fps"] = number(form["fps"])
    if "size" in form:
        width, _, height = form["size"].partition("x")
        video |= {"width": number(width), "height": number(height)}
    return video


def _audio(form: Form) -> dict[str, Any] | None:
    match form.get("audio"):
        case None:
            return None
        case "none":
            return {"export_file": False}
        case codec:
            return {"codec": codec}


def _storage(form: Form, before: Mapping[str, Any]) -> Any:
    match form.get("storage"):
        case None:
            return None
        case value if value == KEEP_STORAGE:
            return before.get("storage_config")
        case name:
            return {"type": "preset", "name": name.removeprefix(_PRESET)}
