"""What `farm up` tells its user: where the portal and the files are, and how to log in."""

from recording_farm.farm.config.settings import FIRST_ORGANIZATION, Settings


def greeting(settings: Settings) -> str:
    """What a user should know while the farm starts: where the portal and the files are, and how long."""
    store = settings.store_location
    place = (
        store.directory if store.directory is not None else f"{store.kind}://{store.bucket}/{store.prefix}"
    )
    kept = f"deleted after {duration(settings.retention)}" if settings.retention else "never deleted"
    return (
        f"portal: {settings.base_url}/ (log in with an organization and an API key)\n"
        f"files: {place}, {kept} (FARM_RETENTION)"
    )


def login_hint(settings: Settings, made: str | None) -> str:
    """How to log in: with the key that was created at this first start, or with one that exists."""
    if made is None:
        organization = settings.api_keys[0].organization_id if settings.api_keys else FIRST_ORGANIZATION
        return (
            f"log in at {settings.base_url}/ with an API key, e.g. of organization {organization} "
            f"(new key: farm keys create {organization})"
        )
    organization, _, key = made.partition(":")
    return (
        f"log in at {settings.base_url}/, organization {organization}, key {key}\n"
        "This key is shown only once; keep it."
    )


def duration(seconds: int) -> str:
    """A duration in its largest whole unit: `7 days`, `36 hours`, `90 seconds`."""
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    unit, length = next(unit for unit in units if seconds % unit[1] == 0)
    number = seconds // length
    return f"{number} {unit}{'' if number == 1 else 's'}"
