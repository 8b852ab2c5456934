"""`farm keys`: create, list and revoke API keys."""

import json

import click

from recording_farm.farm.config.parsing import ORGANIZATION_ID
from recording_farm.farm.config.settings import load_settings
from recording_farm.farm.credentials.api_keys import ApiKey, create_api_key, list_api_keys, revoke_api_key

_MAX_NAME = 100
"""Characters of an API key's name."""


def _organization(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not ORGANIZATION_ID.fullmatch(value):
        raise click.BadParameter("must be 1 to 64 letters, digits, dots, dashes or underscores")
    return value


organization_argument = click.argument("organization", metavar="ORGANIZATION", callback=_organization)


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if len(value) > _MAX_NAME or not value.isprintable():
        raise click.BadParameter(f"must be at most {_MAX_NAME} printable characters")
    return value


@click.group()
def keys() -> None:
    """Create, list and revoke API keys; a running API knows at once."""


@keys.command("create")
@organization_argument
@click.option("--name", default="", callback=_name, help="What the key is for; `farm keys list` shows it.")
def create_key(organization: str, name: str) -> None:
    """Create an API key for ORGANIZATION and print it, this once, on standard output."""
    key, text = create_api_key(load_settings(), organization, name)
    click.echo(f"key {key.id} of organization {organization}; it is shown only this once:", err=True)
    click.echo(text)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the keys as JSON.")
def list_keys(as_json: bool) -> None:
    """List all API keys: id, organization, time of creation and name, but never the key itself."""
    found = list_api_keys(load_settings())
    if as_json:
        click.echo(json.dumps([_as_json(key) for key in found]))
    elif found:
        _print_keys(found)
    else:
        click.echo("no API keys; create one with: farm keys create ORGANIZATION", err=True)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
def revoke_key(key_id: str) -> None:
    """Revoke the API key with this ID: requests with it are rejected from now on."""
    key = revoke_api_key(load_settings(), key_id)
    click.echo(f"key {key.id} of organization {key.organization_id} is revoked", err=True)


def _as_json(key: ApiKey) -> dict[str, str | None]:
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
