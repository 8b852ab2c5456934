"""What this farm's settings allow a recording to be."""

from api.context import Context
from browser_bot.addresses import PageAddressError, check_url
from farm.errors import AddressRefused, InvalidRequest


def check_max_seconds(context: Context, max_seconds: int | None, field: str) -> None:
    """Raises InvalidRequest when recordings may not be that long; `field` says where the wish comes from."""
    longest = context.settings.max_seconds
    if max_seconds is not None and max_seconds > longest:
        raise InvalidRequest(f"{field}: this farm records {longest} seconds at most")


async def check_page(context: Context, url: str, field: str) -> None:
    """Raises AddressRefused when the page may not be opened; `field` says where it comes from."""
    settings = context.settings
    try:
        await check_url(url, settings.address_rule, settings.built_in_meetings)
    except PageAddressError as error:
        raise AddressRefused(f"{field}: {error}") from None
