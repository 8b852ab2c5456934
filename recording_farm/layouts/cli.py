"""The command `farm layouts`."""

import asyncio
import json
import os
import shlex
import sys
from fractions import Fraction
from pathlib import Path

import click

from recording_farm.farm.config.settings import load_settings
from recording_farm.farm.errors import FarmError
from recording_farm.farm.host.ca_file import nss_database
from recording_farm.layouts.check import (
    Browser,
    Checked,
    Outcome,
    approve,
    check,
    check_recording,
    keep_actual,
    useless_masks,
)
from recording_farm.layouts.errors import BadSuiteError
from recording_farm.layouts.report import write_report
from recording_farm.layouts.suite import State, Suite, load_suite

DIFFERENCE = 1
TROUBLE = 2
"""Exit codes: a state differs or has no baseline; the suite is bad or a state has no picture."""


class Seconds(click.ParamType[Fraction]):
    """A time in a file, exactly: `12.5`."""

    name = "SECONDS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        """Read the number."""
        try:
            seconds = Fraction(str(value))
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not 0 <= seconds < 10**7:
            self.fail(f"{value!r} is not a time in a file", param, ctx)
        return seconds


_suite = click.argument("directory", metavar="SUITE", type=click.Path(path_type=Path, file_okay=False))
_only = click.option("--only", multiple=True, metavar="NAME", help="Only this state; can be repeated.")
_report = click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the report; by default SUITE/report.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Layout regression: picture pages in named states and compare them with approved baselines."""


@cli.command("check")
@_suite
@_only
@_report
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option(
    "--recording",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compare a frame of this file instead, with the state of --only.",
)
@click.option("--at", type=Seconds(), help="Time of the frame in the recording, in seconds.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=lambda: len(os.sched_getaffinity(0)),
    show_default="one a core",
    help="States that are pictured at the same time; each takes some 300 MB of memory.",
)
def check_command(
    directory: Path,
    only: tuple[str, ...],
    report: Path | None,
    as_json: bool,
    recording: Path | None,
    at: Fraction | None,
    jobs: int,
) -> None:
    """Picture the states of SUITE and compare them with their baselines.

    Exit code 0: all are the same. 1: a state differs or is new. 2: the suite is bad, a mask matches nothing,
    or a state has no picture. Parts of a page that did not load are warnings.
    """
    suite = load_suite(directory)
    states = suite.chosen(only)
    given, report = report, report or directory / "report"
    if recording is not None or at is not None:
        checked = [_of_recording(directory, states, recording, at)]
    else:
        checked = asyncio.run(_of_pages(directory, suite, states, jobs, told=not as_json))
        keep_actual(report, checked)
    if recording is not None and not as_json:
        _tell(checked[0])
    hint = "" if recording is not None else shlex.join(_approve_command(directory, only, given))
    index = write_report(report, f"Layouts of {directory.absolute().name}", checked, approve=hint)
    if as_json:
        click.echo(json.dumps({"states": [each.as_json() for each in checked], "report": str(index)}))
    else:
        click.echo(f"report: {index}", err=True)
        if hint and any(each.actual is not None and each.outcome is not Outcome.SAME for each in checked):
            click.echo(f"if these are meant: {hint}", err=True)
    # With --only, a mask may be for another state.
    useless = [] if only or recording is not None else useless_masks(checked)
    for mask in useless:
        click.echo(f"the mask {mask!r} matches nothing in any state: correct or remove it", err=True)
    sys.exit(TROUBLE if useless else exit_code(checked))


@cli.command("approve")
@_suite
@_only
@_report
def approve_command(directory: Path, only: tuple[str, ...], report: Path | None) -> None:
    """Make what the last check found different or new in SUITE its baselines."""
    states = load_suite(directory).chosen(only)
    for name in approve(directory, report or directory / "report", states):
        click.echo(f"approved {name}", err=True)


def _approve_command(directory: Path, only: tuple[str, ...], report: Path | None) -> list[str]:
    """The command that approves the pictures of this check."""
    chosen = [word for name in only for word in ("--only", name)]
    where = [] if report is None else ["--report", str(report)]
    return ["farm", "layouts", "approve", str(directory), *chosen, *where]


def exit_code(checked: list[Checked]) -> int:
    """0, or the code of the worst result."""
    outcomes = {each.outcome for each in checked}
    if Outcome.FAILED in outcomes:
        return TROUBLE
    return DIFFERENCE if outcomes != {Outcome.SAME} else 0


async def _of_pages(
    directory: Path, suite: Suite, states: tuple[State, ...], jobs: int, *, told: bool
) -> list[Checked]:
    settings = load_settings()
    browser = Browser(settings.chromium, nss_database(settings.ca_file, settings.data_dir))
    report = _tell if told else _tell_nothing
    return await check(directory, suite, states, browser, jobs=jobs, report=report)


def _of_recording(
    directory: Path, states: tuple[State, ...], recording: Path | None, at: Fraction | None
) -> Checked:
    if recording is None or at is None:
        raise click.UsageError("--recording and --at go together")
    if len(states) != 1:
        raise BadSuiteError("a recording is compared with one state: name it with --only")
    return check_recording(directory, states[0], recording, at)


def _tell(checked: Checked) -> None:
    click.echo(f"{checked.outcome.value:<9}  {checked.state.name}: {checked.message}", err=True)
    for warning in checked.warnings:
        click.echo(f"{'warning':>9}  {warning}", err=True)


def _tell_nothing(_: Checked) -> None:
    """With --json nothing else is printed."""


def main() -> None:
    """Run the command; one of the farm's errors is printed on stderr and ends it with 2."""
    try:
        cli(prog_name="farm layouts", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except (FarmError, OSError) as error:
        click.echo(f"farm: {error}", err=True)
        sys.exit(TROUBLE)
