"""The kinds of storage, as the form shows them that adds a preset."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from recording_farm.api.portal.recording_form import number
from recording_farm.api.portal.visitor import Form


@dataclass(frozen=True)
class Field:
    """A field of a storage in the form, by its name in the API."""

    name: str
    label: str
    kind: Literal["text", "number", "password", "area"] = "text"
    required: bool = True
    hint: str = ""


@dataclass(frozen=True)
class Storage:
    """A kind of storage: what it is called, and what has to be known of it."""

    label: str
    fields: tuple[Field, ...]


_BUCKET: Final = Field("bucket", "Bucket")
_PATH: Final = Field(
    "path", "Path in it", required=False, hint="May hold {meeting_id}, {date}, {year}, {month}, {day}."
)
_REGION: Final = Field("region", "Region")
_ACCESS_KEY: Final = Field("access_key", "Access key")
_SECRET: Final = Field("secret", "Secret access key", "password")
_TOKEN: Final = Field(
    "session_token", "Session token", "password", required=False, hint="Of temporary credentials only."
)

STORAGES: Final[Mapping[str, Storage]] = MappingProxyType(
    {
        "aws": Storage("Amazon S3", (_BUCKET, _PATH, _REGION, _ACCESS_KEY, _SECRET, _TOKEN)),
        "cloudflare": Storage(
            "Cloudflare R2", (_BUCKET, _PATH, Field("account_id", "Account id"), _ACCESS_KEY, _SECRET, _TOKEN)
        ),
        "digitalocean": Storage(
            "DigitalOcean Spaces", (_BUCKET, _PATH, _REGION, _ACCESS_KEY, _SECRET, _TOKEN)
        ),
        "s3": Storage(
            "Another server that speaks S3",
            (
                Field("endpoint", "Address", hint="https://…"),
                _BUCKET,
                _PATH,
                Field("region", "Region", required=False),
                _ACCESS_KEY,
                _SECRET,
                _TOKEN,
            ),
        ),
        "azure": Storage(
            "Azure Blob Storage",
            (
                Field("bucket", "Container"),
                _PATH,
                Field("access_key", "Connection string", "password"),
            ),
        ),
        "gcs": Storage(
            "Google Cloud Storage", (_BUCKET, _PATH, Field("secret", "Service account (JSON)", "area"))
        ),
        "sftp": Storage(
            "SFTP",
            (
                Field("host", "Host"),
                Field("port", "Port", "number", required=False, hint="22 if left empty."),
                Field("username", "User"),
                Field("path", "Directory", required=False),
                Field("password", "Password", "password", required=False, hint="Or pass phrase of the key."),
                Field("private_key", "Private key", "area", required=False, hint="With it, no password."),
                Field("host_key", "Host key", required=False, hint="SHA256:…, else the first one is kept."),
            ),
        ),
    }
)
"""The kinds that `farm.storage.targets` knows, by their `type`."""


def config_of_storage(kind: str, form: Form) -> dict[str, Any]:
    """What the form of a kind of storage says, as the API wants it."""
    fields = STORAGES[kind].fields if kind in STORAGES else ()
    config: dict[str, Any] = {"type": kind}
    for field in fields:
        if field.name in form:
            text = form[field.name]
            config[field.name] = number(text) if field.kind == "number" else text
    if kind == "sftp":
        config["auth_method"] = "KEY" if "private_key" in config else "PASSWORD"
    return config
