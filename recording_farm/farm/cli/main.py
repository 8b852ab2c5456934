"""The command `farm`.

Commands import what they need when they run: `farm up` should say something at once, and `farm --help` should
not wait for libraries that it does not use.
"""

import gc
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.locales import read_locale, read_timezone
from recording_farm.encoder.formats import Codec
from recording_farm.farm.cli.record_options import ParsedType, SizeType, page_url
from recording_farm.farm.errors import FarmError, SettingsError

_SERVERS: Final = frozenset({"up", "api", "worker"})
"""Commands that refuse unknown settings: a mistyped one would go unnoticed for as long as they run."""


class _Commands(click.Group):
    """The group, with commands that are imported when they are used."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "keys":
            from recording_farm.farm.cli.keys import keys

            return keys
        if cmd_name == "quotas":
            from recording_farm.farm.cli.quotas import quotas

            return quotas
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "keys", "quotas"])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="recording-farm", message="farm %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Log more (FARM_LOG_LEVEL=info).")
@click.pass_context
def cli(context: click.Context, verbose: bool) -> None:
    """Recording Farm: records web meetings the way people see and hear them."""
    if context.invoked_subcommand == "up":
        click.echo("starting the farm …", err=True)
    if verbose:
        os.environ["FARM_LOG_LEVEL"] = "info"  # also for the processes that this one starts
    _set_up(os.environ, warn=context.invoked_subcommand not in {*_SERVERS, "doctor"})


def _set_up(environment: Mapping[str, str], *, warn: bool) -> None:
    """Set up logs and certificate authorities; the command itself reports bad settings."""
    from recording_farm.farm.config.settings import load_settings, unknown_setting_message, unknown_settings
    from recording_farm.farm.host.ca_file import trust
    from recording_farm.farm.telemetry.logs import set_up_logs_from_environment

    set_up_logs_from_environment()
    if warn:
        for name in unknown_settings(environment):
            click.echo(f"farm: ignoring {unknown_setting_message(name)}", err=True)
    try:
        settings = load_settings()
    except SettingsError:
        return
    trust(settings.ca_file, settings.data_dir)


@cli.command()
@click.argument("url", callback=page_url)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to make: .mp4 or .webm; .m4a or .mp3 for the audio alone.",
)
@click.option("-y", "--force", is_flag=True, help="Overwrite the file if it exists.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so many seconds.")
@click.option(
    "--codec",
    type=click.Choice([codec.value for codec in Codec]),
    help="By default the file's suffix decides.",
)
@click.option(
    "--size",
    type=SizeType(),
    default=(1280, 720),
    help="Even numbers from 16 to 1920; 1280x720 by default.",
)
@click.option("--fps", type=click.IntRange(15, 60), default=30, show_default=True)
@click.option(
    "--contract",
    type=click.Choice([contract.value for contract in PageContract]),
    default=PageContract.AUTO.value,
    show_default=True,
    help="How the page says when to start and when it is over.",
)
@click.option(
    "--locale",
    type=ParsedType("TAG", read_locale),
    help="Language of the browser, such as de-AT; FARM_LOCALE by default.",
)
@click.option(
    "--timezone",
    type=ParsedType("ZONE", read_timezone),
    help="Time zone of the browser, such as Europe/Vienna; FARM_TIMEZONE by default.",
)
@click.option(
    "--http-credentials",
    metavar="USER:PASSWORD",
    help="For the page's origin, if its server asks (HTTP Basic, Digest).",
)
@click.option(
    "--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="For the page's origin only."
)
@click.option("--cookie", "cookies", metavar="NAME=VALUE", multiple=True, help="For the page's host.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end and nothing else.")
def record(url: str, out: Path, as_json: bool, **options: Any) -> None:
    """Record the page at URL into a file, without the service. Ctrl-C ends it and keeps the file."""
    from recording_farm.farm.cli.record import record_file

    report = record_file(url, out, show_progress=not as_json, **options)
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        click.echo(report.in_words(), err=True)


@cli.command()
def up() -> None:
    """Run the whole farm on this machine: Redis (unless FARM_REDIS_URL is set), API and worker."""
    from recording_farm.farm.cli.greeting import greeting
    from recording_farm.farm.config.settings import load_settings, refuse_unknown_settings
    from recording_farm.farm.host.private_files import keep_files_private
    from recording_farm.farm.host.programs import require_programs
    from recording_farm.farm.host.startup import require_free_port, require_writable_directory
    from recording_farm.farm.host.tls_files import open_tls_files

    settings = load_settings()
    refuse_unknown_settings(os.environ)
    keep_files_private(settings.own_directories)
    require_writable_directory(settings.data_dir, "FARM_DATA_DIR")
    require_free_port("FARM", settings.host, settings.port)
    if settings.node_port is not None:
        require_free_port("FARM_NODE", settings.node_host, settings.node_port)
    open_tls_files(settings.tls_certificate, settings.tls_key)
    require_programs(redis=settings.redis_url is None)
    click.echo(greeting(settings), err=True)

    import asyncio

    from recording_farm.farm.cli.up import run_farm

    with _exiting_quickly():
        asyncio.run(run_farm(settings))


@cli.command()
def api() -> None:
    """Run the API alone; workers run elsewhere, with the same FARM_REDIS_URL."""
    # Started by its name: the API builds on the farm, not the farm on the API.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "recording_farm.api"])  # noqa: S606 - no shell is wanted


@cli.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    options_metavar="",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="check|approve SUITE [OPTIONS]")
def layouts(arguments: tuple[str, ...]) -> None:
    """Check that layouts stay as they were designed."""
    # Like the API: layouts build on the farm and on its built-in meeting.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "recording_farm.layouts", *arguments])  # noqa: S606


@cli.command()
@click.option("--slots", type=click.IntRange(1, 256), help="Concurrent recordings; FARM_SLOTS by default.")
def worker(slots: int | None) -> None:
    """Run a worker alone: a node of a farm of several machines, with the same FARM_REDIS_URL."""
    from recording_farm.farm.config.settings import load_settings, refuse_unknown_settings
    from recording_farm.farm.host.private_files import keep_files_private
    from recording_farm.farm.worker.main import run_worker

    settings = load_settings()
    refuse_unknown_settings(os.environ)
    keep_files_private(settings.own_directories)
    with _exiting_quickly():
        run_worker(settings.model_copy(update={"slots": slots}) if slots else settings)


@contextmanager
def _exiting_quickly() -> Iterator[None]:
    """After this block Python ends without a last search for garbage, which takes 0.3 s or longer."""
    try:
        yield
    finally:
        gc.freeze()


@cli.command()
def health() -> None:
    """Ask the API and the worker on this machine whether they work; exit code 1 unless all that run do."""
    from recording_farm.farm.cli.health import check_health
    from recording_farm.farm.config.settings import load_settings

    found = check_health(load_settings())
    click.echo(json.dumps(found))
    sys.exit(0 if found and all(found.values()) else 1)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def doctor(as_json: bool) -> None:
    """Check all that the farm needs: settings, programs and their versions, fonts, disk, ports, Redis."""
    from recording_farm.farm.cli.doctor import format_report, is_usable, run_checks

    checks = run_checks()
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks]))
    else:
        click.echo(format_report(checks))
    sys.exit(0 if is_usable(checks) else 1)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.option("--markdown", "as_markdown_page", is_flag=True, help="Print docs/settings.md: what each means.")
def config(as_json: bool, as_markdown_page: bool) -> None:
    """Print the effective settings, with secrets hidden."""
    from recording_farm.farm.cli.settings_report import as_markdown, as_text, effective
    from recording_farm.farm.config.settings import load_settings

    if as_markdown_page:
        click.echo(as_markdown(), nl=False)
    elif as_json:
        click.echo(json.dumps(effective(load_settings(), os.environ)))
    else:
        click.echo(as_text(load_settings(), os.environ))


@cli.command()
@click.option("--seconds", type=click.IntRange(1, 600), default=20, show_default=True)
def demo(seconds: int) -> None:
    """Start a farm, record its built-in meeting through the REST API, and stop it."""
    from recording_farm.farm.cli.demo import run_demo
    from recording_farm.farm.config.settings import load_settings

    run_demo(load_settings(), seconds)


def main() -> None:
    """Run the command; an error of the farm's own is one line on stderr, and its exit code."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except FarmError as error:
        click.echo(f"farm: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        click.echo(f"farm: {error}", err=True)
        sys.exit(1)
    except Exception as error:
        import redis

        if not isinstance(error, redis.RedisError):
            raise
        from recording_farm.farm.db.faults import describe

        click.echo(f"farm: FARM_REDIS_URL: {describe(error)}", err=True)
        sys.exit(1)
