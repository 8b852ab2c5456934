"""The fields that say how to record, in the form that starts a recording and in that of the defaults."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from recording_farm.api.portal.visitor import Form

Choice = tuple[str, str]
"""A value that can be chosen, and what it is called."""

SIZES: Final[list[Choice]] = [
    (size, size) for size in ("1280x720", "1920x1080", "854x480", "720x1280", "1080x1920")
]
"""Sizes to choose from; the API takes any."""

KEEP_STORAGE: Final = "keep"
"""Of the storage: the one that is set already, which is no preset."""

_PRESET: Final = "preset:"

_NUMBERS: Final = ("max_seconds",)
_TEXTS: Final = ("url", "file_name_prefix", "page_contract", "priority")


def config_of(form: Form, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a form says, as the API wants it; what was left empty is not in it.

    Of what was set `before` everything stays that the form has no field for.
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


def preset_choices(presets: Sequence[Mapping[str, Any]]) -> list[Choice]:
    """An organization's storage presets to choose from."""
    return [(f"{_PRESET}{preset['name']}", preset["name"]) for preset in presets]


def number(text: str) -> int | str:
    """A whole number; other text as it is, for the API to refuse in its own words."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def size_of(video: Mapping[str, Any]) -> str:
    """The size as it stands in the form; nothing if it is not set."""
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
