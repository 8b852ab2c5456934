"""The report of a check: one HTML file without other files, to open in any browser or to send.

Names and addresses come from the suite, messages from pages, so neither is trusted: all are escaped, and the
Content-Security-Policy allows only this module's own style and script.
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
from recording_farm.layouts.pictures import MADE_BY

INDEX = "index.html"
_ORDER = (Outcome.FAILED, Outcome.DIFFERENT, Outcome.NEW, Outcome.SAME)


def write_report(report: Path, title: str, checked: Sequence[Checked], *, approve: str = "") -> Path:
    """Write `index.html` into the directory `report` and return its path.

    `approve` is the command that makes new pictures the baselines.
    """
    report.mkdir(parents=True, exist_ok=True)
    # Each check writes its report again, so it belongs in no repository.
    ignore = report / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    index = report / INDEX
    index.write_text(report_page(title, checked, approve=approve), encoding="utf-8")
    return index


def report_page(title: str, checked: Sequence[Checked], *, approve: str = "") -> str:
    """The report's HTML: failed states first, same ones last."""
    style, script = (_own(name) for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_hash(style)}'; "
        f"script-src 'sha256-{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    counts = Counter(each.outcome for each in checked)
    summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in _ORDER if counts[outcome])
    browsers = sorted({_browser(each.actual) for each in checked} - {""})
    made_by = f"<p>Pictures by {escape(', '.join(browsers))}.</p>" if browsers else ""
    in_order = sorted(checked, key=lambda each: _ORDER.index(each.outcome))
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}: {escape(summary)}</title>
<style>{style}</style>
<header><h1>{escape(title)}</h1><p>{escape(summary)}</p>
{made_by}{_hint(checked, approve)}{_filter(counts)}</header>
<main>{"".join(map(_state, in_order))}</main>
<script>{script}</script>
</html>
"""


def _hint(checked: Sequence[Checked], approve: str) -> str:
    """The command that approves the new pictures, if there are any."""
    if not approve or all(each.actual is None or each.outcome is Outcome.SAME for each in checked):
        return ""
    return f"<p>To make the new pictures the baselines: <code>{escape(approve)}</code></p>"


def _filter(counts: Counter[Outcome]) -> str:
    """Buttons that show the states of one outcome; the script works them."""
    outcomes = [outcome for outcome in _ORDER if counts[outcome]]
    if len(outcomes) < 2:
        return ""
    choices = [("", f"all ({counts.total()})"), *((each, f"{each} ({counts[each]})") for each in outcomes)]
    buttons = "".join(
        f'<button type="button" data-outcome="{value}" aria-pressed="{"false" if value else "true"}">'
        f"{escape(text)}</button>"
        for value, text in choices
    )
    return f'<p class="filter" role="group" aria-label="Show states">{buttons}</p>'


def _state(checked: Checked) -> str:
    state, outcome = checked.state, checked.outcome
    opened = "" if outcome is Outcome.SAME else " open"
    warnings = "".join(f"<li>{escape(warning)}</li>" for warning in checked.warnings)
    return f"""
<details class="state {outcome}"{opened}>
<summary><span class="outcome">{outcome}</span> <h2>{escape(state.name)}</h2></summary>
<p>{escape(checked.message)}</p>
{f'<p class="warnings">Not loaded:</p><ul class="warnings">{warnings}</ul>' if warnings else ""}
<p class="page">{escape(str(state))}, {escape(str(state.viewport))}</p>
{_pictures(checked)}
</details>"""


def _browser(picture: Picture | None) -> str:
    """The browser of a picture, with its version."""
    return "" if picture is None else str(picture.info.get(MADE_BY, ""))


def _pictures(checked: Checked) -> str:
    baseline, actual, comparison = checked.baseline, checked.actual, checked.comparison
    if checked.outcome is not Outcome.DIFFERENT or baseline is None or actual is None or comparison is None:
        only = actual or baseline
        return _figure("actual" if actual else "baseline", only) if only else ""
    name = escape(checked.state.name)
    before, after = _image("baseline", baseline), _image("actual", actual)
    regions = "".join(f"<li>{escape(str(region))}</li>" for region in comparison.regions)
    return f"""<ul class="regions">{regions}</ul>
<div class="three">{_figure("baseline", baseline, _browser(baseline))}
{_figure("actual", actual, _browser(actual))}
{_figure("difference", comparison.picture)}</div>
<figure class="slider"><figcaption>slider: baseline left, actual right</figcaption>
<div class="stack">{after}<div class="over">{before}</div></div>
<input type="range" min="0" max="100" value="50" aria-label="How much of the baseline of {name} is shown">
</figure>"""


def _figure(caption: str, picture: Picture, browser: str = "") -> str:
    by = f" ({escape(browser)})" if browser else ""
    return f"<figure><figcaption>{caption}{by}</figcaption>{_image(caption, picture)}</figure>"


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
