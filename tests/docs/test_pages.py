"""Pages of Markdown: their links lead somewhere, and their prose is wrapped."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

PAGES: Final = tuple(
    sorted(
        [
            *ROOT.glob("*.md"),
            *(
                page
                for room in ("docs", "examples", "benchmarks", "deploy")
                for page in (ROOT / room).rglob("*.md")
            ),
        ]
    )
)

COLUMNS: Final = 100
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a page that are neither code nor table."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("    ", "|")):
            yield number, line


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: no punctuation, dashes for spaces."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_should_lead_to_a_file_and_a_heading() -> None:
    wrong = []
    for page in PAGES:
        for link in LINK.findall(page.read_text()):
            if ":" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert not wrong, "\n".join(wrong)


def test_each_page_of_docs_should_be_on_the_start_page() -> None:
    start = (ROOT / "docs" / "README.md").read_text()
    assert not [
        page.name
        for page in (ROOT / "docs").glob("*.md")
        if f"({page.name})" not in start and page.name != "README.md"
    ]


def test_prose_should_be_wrapped() -> None:
    wide = [
        f"{page.relative_to(ROOT)}:{number}: {len(line)} columns"
        for page in PAGES
        for number, line in prose(page)
        if len(line) > COLUMNS and " " in line.strip()[:COLUMNS]
    ]
    assert not wide, "\n".join(wide)
