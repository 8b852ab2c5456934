"""The command `farm layouts`."""

import asyncio
import json
import sys
from fractions import Fraction
from pathlib import Path

import click

from recording_farm.farm.config.settings import load_settings
from recording_farm.farm.errors import FarmError
from recording_farm.farm.host.ca_file import nss_database
from recording_farm.layouts.check import (
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
"""Exit codes: something differs or has no baseline; the suite is bad or a state gave no picture."""


class Seconds(click.ParamType[Fraction]):
    """A time in a file, exactly: `12.5`."""

    name = "SECONDS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        """Read the number."""
        try:
            seconds = Fraction(str(value))
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        if not 0 <= seconds < 10**7:
            self.fail(f"{value!r} is no time in a file", param, ctx)
        return seconds


_suite = click.argument("directory", metavar="SUITE", type=click.Path(path_type=Path, file_okay=False))
_only = click.option("--only", multiple=True, metavar="NAME", help="Only this state; may be said again.")
_report = click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the report goes; else SUITE/report.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Layouts stay as they were designed: picture pages in named states and compare with baselines."""


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
@click.option("--at", type=Seconds(), help="When in the recording, in seconds.")
def check_command(
    directory: Path,
    only: tuple[str, ...],
    report: Path | None,
    as_json: bool,
    recording: Path | None,
    at: Fraction | None,
) -> None:
    """Picture the states of SUITE and compare them.

    0: all the same, 1: something differs or is new, 2: bad suite, a mask that finds nothing, or no picture.
    """
    suite = load_suite(directory)
    states = suite.chosen(only)
    report = report or directory / "report"
    if recording is not None or at is not None:
        checked = [_of_recording(directory, states, recording, at)]
    else:
        checked = asyncio.run(_of_pages(directory, suite, states, told=not as_json))
        keep_actual(report, checked)
    if recording is not None and not as_json:
        _tell(checked[0])
    index = write_report(report, f"Layouts of {directory.absolute().name}", checked)
    if as_json:
        click.echo(json.dumps({"states": [each.as_json() for each in checked], "report": str(index)}))
    else:
        click.echo(f"report: {index}", err=True)
    # Of some of the states nothing can be said: a mask may be for another one.
    useless = [] if only or recording is not None else useless_masks(checked)
    for mask in useless:
        click.echo(f"the mask {mask!r} finds nothing in any state: correct or remove it", err=True)
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


def exit_code(checked: list[Checked]) -> int:
    """0, or the worst that came of a state."""
    outcomes = {each.outcome for each in checked}
    if Outcome.FAILED in outcomes:
        return TROUBLE
    return DIFFERENCE if outcomes != {Outcome.SAME} else 0


async def _of_pages(directory: Path, suite: Suite, states: tuple[State, ...], *, told: bool) -> list[Checked]:
    found = []
    settings = load_settings()
    authorities = nss_database(settings.ca_file, settings.data_dir)
    async for checked in check(directory, suite, states, chromium=settings.chromium, authorities=authorities):
        found.append(checked)
        if told:
            _tell(checked)
    return found


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


def main() -> None:
    """Run the command; an error of the farm's own is told on stderr and ends with 2."""
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
