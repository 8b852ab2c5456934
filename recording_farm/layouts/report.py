"""The report of a check: one HTML file with everything in it, to be opened in any browser or sent to anybody.

Nothing in it is trusted: names and addresses come from the suite, messages from pages. It is escaped, and the
Content-Security-Policy lets run and load nothing but this module's own style and script.
"""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from PIL.Image import Image as Picture

from recording_farm.layouts.check import Checked, Outcome

INDEX = "index.html"
_ORDER = (Outcome.FAILED, Outcome.DIFFERENT, Outcome.NEW, Outcome.SAME)


def write_report(report: Path, title: str, checked: Sequence[Checked]) -> Path:
    """Write `index.html` into the directory `report` and return its path."""
    report.mkdir(parents=True, exist_ok=True)
    # A report is made anew each time and belongs into no repository.
    ignore = report / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    index = report / INDEX
    index.write_text(report_page(title, checked), encoding="utf-8")
    return index


def report_page(title: str, checked: Sequence[Checked]) -> str:
    """The report's HTML: what failed first, what is the same last."""
    style, script = (_own(name) for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_hash(style)}'; "
        f"script-src 'sha256-{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    counts = Counter(each.outcome for each in checked)
    summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in _ORDER if counts[outcome])
    in_order = sorted(checked, key=lambda each: _ORDER.index(each.outcome))
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}: {escape(summary)}</title>
<style>{style}</style>
<header><h1>{escape(title)}</h1><p>{escape(summary)}</p></header>
<main>{"".join(map(_state, in_order))}</main>
<script>{script}</script>
</html>
"""


def _state(checked: Checked) -> str:
    state, outcome = checked.state, checked.outcome
    opened = "" if outcome is Outcome.SAME else " open"
    return f"""
<details class="state {outcome}"{opened}>
<summary><span class="outcome">{outcome}</span> <h2>{escape(state.name)}</h2></summary>
<p>{escape(checked.message)}</p>
<p class="page">{escape(str(state))}, {escape(str(state.viewport))}</p>
{_pictures(checked)}
</details>"""


def _pictures(checked: Checked) -> str:
    baseline, actual, comparison = checked.baseline, checked.actual, checked.comparison
    if checked.outcome is not Outcome.DIFFERENT or baseline is None or actual is None or comparison is None:
        only = actual or baseline
        return _figure("actual" if actual else "baseline", only) if only else ""
    name = escape(checked.state.name)
    before, after = _image("baseline", baseline), _image("actual", actual)
    regions = "".join(f"<li>{escape(str(region))}</li>" for region in comparison.regions)
    return f"""<ul class="regions">{regions}</ul>
<div class="three">{_figure("baseline", baseline)}{_figure("actual", actual)}
{_figure("difference", comparison.picture)}</div>
<figure class="slider"><figcaption>slider: baseline left, actual right</figcaption>
<div class="stack">{after}<div class="over">{before}</div></div>
<input type="range" min="0" max="100" value="50" aria-label="How much of the baseline of {name} is shown">
</figure>"""


def _figure(caption: str, picture: Picture) -> str:
    return f"<figure><figcaption>{caption}</figcaption>{_image(caption, picture)}</figure>"


def _image(alternative: str, picture: Picture) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img alt="{alternative}" width="{picture.width}" height="{picture.height}" '
        f'src="data:image/png;base64,{data}">'
    )


def _own(name: str) -> str:
    return files("recording_farm.layouts").joinpath("report_page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
