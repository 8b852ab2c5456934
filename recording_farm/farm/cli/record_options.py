"""The options of `farm record`, read and checked."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from recording_farm.encoder.formats import AudioCodec, AudioExport, Codec, Format

if TYPE_CHECKING:
    from recording_farm.browser_bot.page.site_access import SiteAccess


class SizeType(click.ParamType[tuple[int, int]]):
    """A picture size, `1280x720`: even numbers from 16 to 1920."""

    name = "WIDTHxHEIGHT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Parse the two numbers."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(value))
        if match is None:
            self.fail(f"{value!r} is not a size like 1280x720", param, ctx)
        width, height = int(match[1]), int(match[2])
        if any(side % 2 or not 16 <= side <= 1920 for side in (width, height)):
            self.fail(f"{value!r}: width and height must be even, from 16 to 1920", param, ctx)
        return width, height


class ParsedType(click.ParamType[str]):
    """Text that a function parses, which raises ValueError if it is wrong."""

    def __init__(self, name: str, parse: Callable[[str], str]) -> None:
        """Parse with `parse` an option that the help calls `name`."""
        self.name = name
        self._parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Parse the option."""
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


def page_url(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """The URL of the page, unless it can never be one. Raises click.BadParameter."""
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if not parts.scheme or (parts.scheme in {"http", "https"} and not parts.hostname):
        raise click.BadParameter("not a valid URL; write it with http://, https:// or file://")
    return value


def format_of(file: Path, codec: str | None, size: tuple[int, int], fps: int) -> Format:
    """The format that a file's suffix and the options ask for. Raises click.BadParameter if they disagree."""
    for audio in AudioCodec:
        if file.suffix == audio.suffix:
            if codec is not None:
                raise click.BadParameter(f"a {audio.suffix} file has no video", param_hint="--codec")
            return Format(Codec.H264, *size, fps, AudioExport(audio))
    by_suffix = Codec.VP8 if file.suffix == Codec.VP8.suffix else Codec.H264
    chosen = Codec(codec) if codec else by_suffix
    if file.suffix != chosen.suffix:
        raise click.BadParameter(f"{chosen.value} is written to a {chosen.suffix} file", param_hint="--out")
    return Format(chosen, *size, fps)


def access_of(credentials: str | None, headers: Sequence[str], cookies: Sequence[str]) -> "SiteAccess":
    """The credentials, headers and cookies of the options. Raises click.BadParameter, without any secret."""
    from pydantic import ValidationError

    from recording_farm.farm.pages.access import PageAccess

    user, colon, password = (credentials or "").partition(":")
    if credentials is not None and not colon:
        raise click.BadParameter("write user:password", param_hint="--http-credentials")
    if any(":" not in header for header in headers):
        raise click.BadParameter("write NAME: VALUE", param_hint="--header")
    if any("=" not in cookie for cookie in cookies):
        raise click.BadParameter("write NAME=VALUE", param_hint="--cookie")
    pairs = [header.partition(":") for header in headers]
    if len({name.lower() for name, _, _ in pairs}) < len(pairs):
        raise click.BadParameter("sets a header twice", param_hint="--header")
    parts = [cookie.partition("=") for cookie in cookies]
    try:
        access = PageAccess.model_validate(
            {
                "http_credentials": [{"username": user, "password": password}] if colon else None,
                "headers": {name: value.strip() for name, _, value in pairs},
                "cookies": [{"name": name, "value": value} for name, _, value in parts],
            }
        )
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        options = {"headers": "--header", "cookies": "--cookie"}
        hint = options.get(str(problem["loc"][0]), "--http-credentials")
        raise click.BadParameter(problem["msg"], param_hint=hint) from None
    return access.to_site
