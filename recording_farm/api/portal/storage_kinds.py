"""The types of storage and the fields of each, for the form that adds a preset."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from recording_farm.api.portal.recording_form import number
from recording_farm.api.portal.visitor import Form


@dataclass(frozen=True)
class Field:
    """A field of the form; `name` is its name in the API."""

    name: str
    label: str
    kind: Literal["text", "number", "password", "area"] = "text"
    required: bool = True
    hint: str = ""


@dataclass(frozen=True)
class Storage:
    """A type of storage."""

    label: str
    fields: tuple[Field, ...]


_BUCKET: Final = Field("bucket", "Bucket")
_PATH: Final = Field(
    "path",
    "Path prefix",
    required=False,
    hint="{meeting_id}, {date}, {year}, {month} and {day} are replaced.",
)
_REGION: Final = Field("region", "Region")
_ACCESS_KEY: Final = Field("access_key", "Access key")
_SECRET: Final = Field("secret", "Secret access key", "password")
_TOKEN: Final = Field(
    "session_token", "Session token", "password", required=False, hint="Only for temporary credentials."
)

STORAGES: Final[Mapping[str, Storage]] = MappingProxyType(
    {
        "aws": Storage("Amazon S3", (_BUCKET, _PATH, _REGION, _ACCESS_KEY, _SECRET, _TOKEN)),
        "cloudflare": Storage(
            "Cloudflare R2", (_BUCKET, _PATH, Field("account_id", "Account ID"), _ACCESS_KEY, _SECRET, _TOKEN)
        ),
        "digitalocean": Storage(
            "DigitalOcean Spaces", (_BUCKET, _PATH, _REGION, _ACCESS_KEY, _SECRET, _TOKEN)
        ),
        "s3": Storage(
            "Other S3-compatible server",
            (
                Field("endpoint", "Endpoint URL", hint="https://…"),
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
                Field("port", "Port", "number", required=False, hint="22 if empty."),
                Field("username", "User name"),
                Field("path", "Directory", required=False),
                Field(
                    "password",
                    "Password",
                    "password",
                    required=False,
                    hint="Or the passphrase of the private key.",
                ),
                Field("private_key", "Private key", "area", required=False, hint="Instead of a password."),
                Field(
                    "host_key",
                    "Host key",
                    required=False,
                    hint="SHA256:… If empty, the first one seen is trusted.",
                ),
            ),
        ),
    }
)
"""The types in `farm.storage.targets`, by their `type`."""


def is_editable(config: Mapping[str, Any]) -> bool:
    """Whether the form shows every field of a preset; saving it would drop the others."""
    kind = config["type"]
    shown = {field.name for field in STORAGES[kind].fields} if kind in STORAGES else set()
    return kind in STORAGES and set(config) <= shown | {"type", "auth_method"}


def config_of_storage(kind: str, form: Form) -> dict[str, Any]:
    """The `storage_config` that the form describes."""
    fields = STORAGES[kind].fields if kind in STORAGES else ()
    config: dict[str, Any] = {"type": kind}
    for field in fields:
        if field.name in form:
            text = form[field.name]
            config[field.name] = number(text) if field.kind == "number" else text
    if kind == "sftp":
        config["auth_method"] = "KEY" if "private_key" in config else "PASSWORD"
    return config
