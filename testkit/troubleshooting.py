"""The generated half of docs/troubleshooting.md: `python -m testkit.troubleshooting` writes it."""

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from recording_farm.api.error_types import ERROR_TYPES
from recording_farm.farm.cli.doctor import CHECKS
from recording_farm.farm.cli.doctor_help import HELP
from recording_farm.farm.recording.explanations import FAILURES, FINDINGS, STOP_REASONS, STORAGE

PAGE: Final = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
MARK: Final = "<!-- Generated from the code by `python -m testkit.troubleshooting`; do not edit below. -->\n"

_WIDTH: Final = 100


def generated() -> str:
    """The half of the page below the mark."""
    errors = ((f"`{name}` ({each.status})", each.meaning, each.remedy) for name, each in ERROR_TYPES.items())
    checks = ((f"`{name}`", *HELP[name]) for name, _, _ in CHECKS)
    parts = [
        *_section("Errors of the API", "By `error.type` of an answer, with its HTTP status.", errors),
        *_section("Failed recordings", "By `error.code` of a recording.", _codes(FAILURES.items())),
        *_section("Stop reasons", "By `stop_reason.reason` of a recording.", _codes(STOP_REASONS.items())),
        *_section(
            "Findings", "By their names in `quality.findings` and in `timeline`.", _codes(FINDINGS.items())
        ),
        *_section(
            "Storage",
            "By `error.code` of a transfer, and `code` of `POST /storage/check`.",
            _codes(STORAGE.items()),
        ),
        *_section("farm doctor", "By the name of the line.", checks),
    ]
    return "\n".join(parts) + "\n"


def _codes(items: Iterable[tuple[str, tuple[str, str]]]) -> Iterator[tuple[str, str, str]]:
    for code, (meaning, remedy) in items:
        yield f"`{code}`", meaning, "" if remedy == "Nothing." else remedy


def _section(title: str, about: str, entries: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    yield from ("", f"## {title}", "", about, "")
    for name, meaning, remedy in entries:
        yield from textwrap.wrap(
            f"- {name}: {meaning} {f'*To do:* {remedy}' if remedy else ''}".rstrip(),
            _WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def page(present: str) -> str:
    """The page as it should be, with the half above the mark as it is."""
    return present.partition(MARK)[0] + MARK + generated()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
