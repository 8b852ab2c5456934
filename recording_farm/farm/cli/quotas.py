"""`farm quotas`: how much of the farm one organization may use."""

import json
from dataclasses import asdict, replace

import click

from recording_farm.farm.cli.keys import organization_argument
from recording_farm.farm.config.settings import load_settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.recording.quotas import MAX_WEIGHT, OwnQuota, Quota, Quotas

_LIMIT = click.IntRange(0, 10_000_000)


@click.group()
def quotas() -> None:
    """Show and change the quota of one organization; a running farm applies it at once."""


@quotas.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the quotas as JSON.")
def list_quotas(as_json: bool) -> None:
    """List the organizations with a quota of their own; the settings apply to all others."""
    settings = load_settings()
    with connect(settings.redis_address) as client:
        found = Quotas(client, settings).all()
    if as_json:
        click.echo(json.dumps([{"organization": name, **asdict(quota)} for name, quota in found.items()]))
    elif found:
        _print(found)
    else:
        click.echo("no quotas of single organizations; set one with: farm quotas set ORGANIZATION", err=True)


@quotas.command("set")
@organization_argument
@click.option("--queued", type=_LIMIT, help="Recordings that may wait, as FARM_QUOTA_QUEUED; 0 for no limit.")
@click.option("--running", type=_LIMIT, help="Concurrent recordings, as FARM_QUOTA_RUNNING; 0 for no limit.")
@click.option(
    "--weight",
    type=click.IntRange(1, MAX_WEIGHT),
    help="Starts while other organizations, with weight 1, have one.",
)
@click.option("--high/--no-high", "high_priority", default=None, help="Whether it may use `priority` high.")
def set_quota(
    organization: str,
    queued: int | None,
    running: int | None,
    weight: int | None,
    high_priority: bool | None,
) -> None:
    """Set the quota of ORGANIZATION; values without an option stay as they are."""
    settings = load_settings()
    with connect(settings.redis_address) as client:
        kept = Quotas(client, settings)
        given = OwnQuota(queued, running, weight, high_priority)
        if given == OwnQuota():
            raise click.UsageError("nothing to set; see farm quotas set --help")
        kept.set(organization, _merged(kept.own(organization), given))
        _print({organization: kept.of(organization)})


@quotas.command("reset")
@organization_argument
def reset_quota(organization: str) -> None:
    """Remove the quota of ORGANIZATION; the settings apply to it again."""
    settings = load_settings()
    with connect(settings.redis_address) as client:
        Quotas(client, settings).set(organization, OwnQuota())
    click.echo(f"the settings apply to {organization}", err=True)


def _merged(before: OwnQuota, given: OwnQuota) -> OwnQuota:
    return replace(before, **{name: value for name, value in asdict(given).items() if value is not None})


def _print(found: dict[str, Quota]) -> None:
    width = max(len("ORGANIZATION"), *(len(name) for name in found))
    click.echo(f"{'ORGANIZATION':<{width}}  {'QUEUED':>8}  {'RUNNING':>8}  {'WEIGHT':>6}  HIGH")
    for name, quota in found.items():
        limits = [str(limit) if limit else "no limit" for limit in (quota.queued, quota.running)]
        high = "yes" if quota.high_priority else "no"
        click.echo(f"{name:<{width}}  {limits[0]:>8}  {limits[1]:>8}  {quota.weight:>6}  {high}")
