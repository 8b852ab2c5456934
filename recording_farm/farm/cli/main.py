"""The command `farm`."""

import asyncio
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import redis
from pydantic import ValidationError

from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.site_access import SiteAccess
from recording_farm.browser_bot.stage.environment import Environment
from recording_farm.browser_bot.stage.locales import read_locale, read_timezone
from recording_farm.encoder.formats import AudioCodec, AudioExport, Codec, Format
from recording_farm.farm.cli.doctor import format_report, is_usable, run_checks
from recording_farm.farm.config.settings import ORGANIZATION_ID, LogLevel, load_settings, unknown_settings
from recording_farm.farm.credentials.api_keys import ApiKey, create_api_key, list_api_keys, revoke_api_key
from recording_farm.farm.db.faults import describe
from recording_farm.farm.errors import FarmError, SettingsError
from recording_farm.farm.host.ca_file import nss_database, trust
from recording_farm.farm.host.programs import require_programs
from recording_farm.farm.pages.access import PageAccess
from recording_farm.farm.telemetry.logs import set_up_logs_from_environment

logger = logging.getLogger(__name__)

_MAX_NAME = 100
"""Characters of an API key's name."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Say more of what happens.")
def cli(verbose: bool) -> None:
    """Recording Farm: records web meetings the way people see and hear them."""
    if verbose:
        os.environ["FARM_LOG_LEVEL"] = (
            LogLevel.INFO.value
        )  # for the parts that are programs of their own, too
    set_up_logs_from_environment()
    _trust_from_environment()
    for name in unknown_settings(os.environ):
        logger.warning("%s is no setting of the farm, and nothing looks at it", name)


def _trust_from_environment() -> None:
    """Trust the authorities of FARM_CA_FILE; bad settings are told by the command itself."""
    try:
        settings = load_settings()
    except SettingsError:
        return
    trust(settings.ca_file, settings.data_dir)


class SizeType(click.ParamType[tuple[int, int]]):
    """A picture size, `1280x720`: even numbers from 16 to 1920."""

    name = "WIDTHxHEIGHT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Read the two numbers."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(value))
        if match is None:
            self.fail(f"{value!r} is not a size like 1280x720", param, ctx)
        width, height = int(match[1]), int(match[2])
        if any(side % 2 or not 16 <= side <= 1920 for side in (width, height)):
            self.fail(f"{value!r}: width and height must be even, from 16 to 1920", param, ctx)
        return width, height


class ReadType(click.ParamType[str]):
    """Text as a function has it that raises ValueError for what is wrong."""

    def __init__(self, name: str, read: Callable[[str], str]) -> None:
        """Read with `read` what the help calls `name`."""
        self.name = name
        self._read = read

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read it."""
        try:
            return self._read(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


@cli.command()
@click.argument("url")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to make: .mp4 or .webm; .m4a or .mp3 for the sound alone.",
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so many seconds.")
@click.option(
    "--codec", type=click.Choice([codec.value for codec in Codec]), help="Else by the file's suffix."
)
@click.option("--size", type=SizeType(), default=(1280, 720), help="Even, 16 to 1920; by default 1280x720.")
@click.option("--fps", type=click.IntRange(15, 60), default=30, show_default=True)
@click.option(
    "--contract",
    type=click.Choice([contract.value for contract in PageContract]),
    default=PageContract.AUTO.value,
    show_default=True,
    help="How the page says when to start and that it is over.",
)
@click.option(
    "--locale",
    type=ReadType("TAG", read_locale),
    help="Language of the browser, such as de-AT; else FARM_LOCALE.",
)
@click.option(
    "--timezone",
    type=ReadType("ZONE", read_timezone),
    help="Its zone, such as Europe/Vienna; else FARM_TIMEZONE.",
)
@click.option(
    "--http-credentials",
    metavar="USER:PASSWORD",
    help="For the page's origin, if its server asks (HTTP Basic, Digest).",
)
@click.option(
    "--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="For the page's origin alone."
)
@click.option("--cookie", "cookies", metavar="NAME=VALUE", multiple=True, help="For the page's host.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end and nothing else.")
def record(
    url: str,
    out: Path,
    seconds: float | None,
    codec: str | None,
    size: tuple[int, int],
    fps: int,
    contract: str,
    locale: str | None,
    timezone: str | None,
    http_credentials: str | None,
    headers: tuple[str, ...],
    cookies: tuple[str, ...],
    as_json: bool,
) -> None:
    """Record the page at URL into a file, without the service. Ctrl-C ends it and keeps the file."""
    from recording_farm.farm.cli.record import record_once
    from recording_farm.farm.recorder.monitor import Limits
    from recording_farm.farm.recorder.plan import Plan

    settings = load_settings()
    access = access_of(http_credentials, headers, cookies)
    plan = Plan(
        url=url,
        access=access,
        secrets=tuple(access.secrets),
        format=format_of(out, codec, size, fps),
        contract=PageContract(contract),
        max_seconds=seconds,
        chromium=settings.chromium,
        environment=Environment(
            settings.fake_devices, locale or settings.locale, timezone or settings.timezone
        ),
        authorities=nss_database(settings.ca_file, settings.data_dir),
        limits=Limits(most_memory=settings.stage_memory, empty_seconds=settings.empty_seconds),
    )
    report = asyncio.run(record_once(plan, out.absolute(), show_progress=not as_json))
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        click.echo(report.in_words(), err=True)


@cli.command()
def up() -> None:
    """Run the whole farm on this machine: Redis (unless FARM_REDIS_URL is set), API and worker."""
    from recording_farm.farm.cli.up import run_farm

    settings = load_settings()
    require_programs(redis=settings.redis_url is None)
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
@click.option("--slots", type=click.IntRange(1, 256), help="Recordings at the same time; else FARM_SLOTS.")
def worker(slots: int | None) -> None:
    """Run a worker alone: a node of a farm of several machines, with the same FARM_REDIS_URL."""
    from recording_farm.farm.worker.main import run_worker

    settings = load_settings()
    run_worker(settings.model_copy(update={"slots": slots}) if slots else settings)


@cli.command()
def health() -> None:
    """Ask the API and the worker that run here whether they can work; exit code 1 unless all that do can."""
    from recording_farm.farm.cli.health import ask_here

    found = ask_here(load_settings())
    click.echo(json.dumps(found))
    sys.exit(0 if found and all(found.values()) else 1)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def doctor(as_json: bool) -> None:
    """Check every outside program: whether it is there, its version, whether it works."""
    checks = run_checks()
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks]))
    else:
        click.echo(format_report(checks))
    sys.exit(0 if is_usable(checks) else 1)


@cli.command()
@click.option("--seconds", type=click.IntRange(1, 600), default=20, show_default=True)
def demo(seconds: int) -> None:
    """Start a farm, record its built-in meeting through the REST API, and end it."""
    from recording_farm.farm.cli.demo import run_demo

    run_demo(load_settings(), seconds)


@cli.group()
def keys() -> None:
    """Make, list and revoke API keys; a running API knows at once."""


def _organization(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not ORGANIZATION_ID.fullmatch(value):
        raise click.BadParameter("up to 64 letters, digits, dots, dashes and underscores")
    return value


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if len(value) > _MAX_NAME or not value.isprintable():
        raise click.BadParameter(f"up to {_MAX_NAME} printable characters")
    return value


@keys.command("create")
@click.argument("organization", metavar="ORGANIZATION", callback=_organization)
@click.option("--name", default="", callback=_name, help="What the key is for; shown by `farm keys list`.")
def create_key(organization: str, name: str) -> None:
    """Make an API key for ORGANIZATION and print it, only this once, on standard output."""
    key, text = create_api_key(load_settings(), organization, name)
    click.echo(f"key {key.id} of {organization}; it cannot be shown again:", err=True)
    click.echo(text)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the keys as JSON.")
def list_keys(as_json: bool) -> None:
    """List all API keys: id, organization, when each was made and its name, but never the key."""
    found = list_api_keys(load_settings())
    if as_json:
        click.echo(json.dumps([_shown(key) for key in found]))
    elif found:
        _print_keys(found)
    else:
        click.echo("no API keys; make one with: farm keys create ORGANIZATION", err=True)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
def revoke_key(key_id: str) -> None:
    """Revoke the API key with this ID: what carries it is refused from now on."""
    key = revoke_api_key(load_settings(), key_id)
    click.echo(f"key {key.id} of {key.organization_id} is revoked", err=True)


def _shown(key: ApiKey) -> dict[str, str | None]:
    return {
        "id": key.id,
        "organization": key.organization_id,
        "created": key.created.isoformat() if key.created else None,
        "name": key.name,
        "source": "FARM_API_KEYS" if key.from_settings else "file",
    }


def _print_keys(found: list[ApiKey]) -> None:
    width = max(len("ORGANIZATION"), *(len(key.organization_id) for key in found))
    click.echo(f"{'ID':<16}  {'ORGANIZATION':<{width}}  {'CREATED':<25}  NAME")
    for key in found:
        created = key.created.isoformat() if key.created else "-"
        name = "(from FARM_API_KEYS)" if key.from_settings else key.name
        click.echo(f"{key.id:<16}  {key.organization_id:<{width}}  {created:<25}  {name}".rstrip())


def format_of(file: Path, codec: str | None, size: tuple[int, int], fps: int) -> Format:
    """What a file's suffix and the options ask for. Raises click.BadParameter if they do not fit together."""
    for audio in AudioCodec:
        if file.suffix == audio.suffix:
            if codec is not None:
                raise click.BadParameter(f"a {audio.suffix} file has no {codec} in it", param_hint="--codec")
            return Format(Codec.H264, *size, fps, AudioExport(audio))
    by_suffix = Codec.VP8 if file.suffix == Codec.VP8.suffix else Codec.H264
    chosen = Codec(codec) if codec else by_suffix
    if file.suffix != chosen.suffix:
        raise click.BadParameter(f"{chosen.value} is written to a {chosen.suffix} file", param_hint="--out")
    return Format(chosen, *size, fps)


def access_of(credentials: str | None, headers: Sequence[str], cookies: Sequence[str]) -> SiteAccess:
    """What the options give to the page's server. Raises click.BadParameter, which never shows a secret."""
    user, colon, password = (credentials or "").partition(":")
    if credentials is not None and not colon:
        raise click.BadParameter("write user:password", param_hint="--http-credentials")
    if any(":" not in header for header in headers):
        raise click.BadParameter("write NAME: VALUE", param_hint="--header")
    if any("=" not in cookie for cookie in cookies):
        raise click.BadParameter("write NAME=VALUE", param_hint="--cookie")
    pairs = [header.partition(":") for header in headers]
    if len({name.lower() for name, _, _ in pairs}) < len(pairs):
        raise click.BadParameter("names a header twice", param_hint="--header")
    cut = [cookie.partition("=") for cookie in cookies]
    try:
        access = PageAccess.model_validate(
            {
                "http_credentials": [{"username": user, "password": password}] if colon else None,
                "headers": {name: value.strip() for name, _, value in pairs},
                "cookies": [{"name": name, "value": value} for name, _, value in cut],
            }
        )
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        options = {"headers": "--header", "cookies": "--cookie"}
        hint = options.get(str(problem["loc"][0]), "--http-credentials")
        raise click.BadParameter(problem["msg"], param_hint=hint) from None
    return access.to_site


def main() -> None:
    """Run the command; an error of the farm's own is one line on stderr and exit code 1."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except (FarmError, OSError) as error:
        click.echo(f"farm: {error}", err=True)
        sys.exit(1)
    except redis.RedisError as error:
        click.echo(f"farm: Redis cannot be used, see FARM_REDIS_URL: {describe(error)}", err=True)
        sys.exit(1)
