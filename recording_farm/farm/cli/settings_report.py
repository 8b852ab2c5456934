"""`farm config`: the effective settings as text or JSON, and docs/settings.md."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from recording_farm.farm.config.parsing import format_bytes, format_seconds, parse_bytes, parse_seconds
from recording_farm.farm.config.settings import Group, Settings, about, is_secret

_HIDDEN: Final = "(set, hidden)"

_COMPUTED: Final = {
    "slots": "by cores and memory",
    "node": "the host name",
    "api_keys": "",
    "admins": "the first organization of FARM_API_KEYS, else `default`",
}
"""Defaults that depend on the machine, or are described better than shown."""

_FORMATS: Final = {parse_seconds: format_seconds, parse_bytes: format_bytes}
"""Formats of the defaults of settings with these parsers."""

_INTRODUCTION: Final = """\
# Settings

<!-- Generated: `farm config --markdown > docs/settings.md` from farm/config/settings.py. -->

All settings are environment variables. A value that cannot be used, or an unknown `FARM_` variable,
ends `farm up`, `farm api` and `farm worker` at once with exit code 78; other commands ignore
unknown variables with a warning. Variables that Kubernetes sets for a Service
(`FARM_…_SERVICE_HOST`, `FARM_…_PORT=tcp://…`) are ignored; set `enableServiceLinks: false` in a Pod
beside a Service called `farm`, because its `FARM_PORT` would be read as the setting.

`farm config` prints the effective settings, with secrets hidden; `farm doctor` checks them.
"""


def effective(settings: Settings, environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Each setting's variable with its value, and whether the environment has set it; without secrets."""
    given = {name.upper() for name, value in environment.items() if value}
    return {
        variable(name): {
            "value": _HIDDEN
            if is_secret(name) and getattr(settings, name)
            else _plain(getattr(settings, name)),
            "set": variable(name) in given,
        }
        for name in Settings.model_fields
    }


def as_text(settings: Settings, environment: Mapping[str, str]) -> str:
    """The effective settings for people, in their groups."""
    found = effective(settings, environment)
    width = max(map(len, found))
    lines = []
    for group in Group:
        lines += ["", f"{group}:"]
        for name in in_group(group):
            entry = found[variable(name)]
            source = "" if entry["set"] else "  (default)"
            lines.append(f"  {variable(name):<{width}}  {_text(entry['value'])}{source}".rstrip())
    return "\n".join(lines[1:])


def as_markdown() -> str:
    """docs/settings.md: all settings, in their groups."""
    parts = [_INTRODUCTION]
    for group in Group:
        rows = [_row(name) for name in in_group(group)]
        parts.append("\n".join([f"## {group}", "", *_HEAD, *rows, ""]))
    return "\n".join(parts)


_HEAD: Final = (
    "| variable | meaning | unit | default | example | module |",
    "|---|---|---|---|---|---|",
)


def in_group(group: Group) -> list[str]:
    """The names of a group's settings, in the order of their definition."""
    return [name for name in Settings.model_fields if about(name).group is group]


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"FARM_{name.upper()}"


def _row(name: str) -> str:
    field, known = Settings.model_fields[name], about(name)
    example = known.example if known.example.startswith("`") else f"`{known.example}`"
    modules = ", ".join(f"`{module}`" for module in known.modules)
    cells = (f"`{variable(name)}`", field.description or "", known.unit, _default(name), example, modules)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(name: str) -> str:
    if name in _COMPUTED:
        return _COMPUTED[name]
    field = Settings.model_fields[name]
    if field.default is PydanticUndefined:
        return ""
    parsers = {getattr(validator, "func", None) for validator in field.metadata}
    formats = (form for parser, form in _FORMATS.items() if parser in parsers)
    text = next(formats, _text)(_plain(field.default))
    return f"`{text}`" if text else ""


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    match value:
        case SecretStr():
            return _HIDDEN
        case Path():
            return os.fspath(value)
        case tuple():
            return [_plain(each) for each in value]
        case _:
            return value


def _text(value: Any) -> str:
    """A value as the environment has it."""
    match value:
        case None:
            return ""
        case bool():
            return "on" if value else "off"
        case list():
            return ",".join(
                "=".join(map(_text, each)) if isinstance(each, list) else _text(each) for each in value
            )
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)
