"""Targets: the validated `storage_config` of the recording API, one model for each kind of storage.

Targets contain secrets: they are stored sealed (`farm.credentials.sealing`), and clients see `public` only.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    model_validator,
)
from pydantic_core import PydanticCustomError

from recording_farm.browser_bot.network.host_names import HostError, normalize_host, with_host_in_ascii

PRESET_NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
"""The pattern of a preset's name."""

PRESET_NAME_RULE = "must be 1 to 64 letters, digits, dots, dashes or underscores, and not begin with a dot"
"""The rule for clients."""

_PLACEHOLDERS = frozenset({"meeting_id", "recording_id", "organization_id", "date", "year", "month", "day"})
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._=-]+")

_PATH = rf"^([^{{}}\\\u0000-\u001f\u007f-\u009f]|\{{({'|'.join(sorted(_PLACEHOLDERS))})\}})*$"
"""Valid both in Python and in JSON Schema, because openapi.json contains these patterns."""

_DOTS = r"(^|/)\.\.?(/|$)"
_METADATA_KEY = r"^[A-Za-z0-9._-]{1,64}$"
_METADATA_VALUE = r"^([!-~]([ -~]*[!-~])?)?$"
_HEADER_VALUE = "[!-~]*"
_TAG = "[A-Za-z0-9 +=._:/@-]"
_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f]*$"


def _matching(pattern: str, rule: str) -> tuple[AfterValidator, Any]:
    """A pattern with its own error message; the JSON Schema contains the pattern."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise PydanticCustomError("pattern", "{rule}", {"rule": rule})
        return value

    return AfterValidator(check), Field(json_schema_extra={"pattern": pattern})


def _path(value: str) -> str:
    if not re.fullmatch(_PRINTABLE, value) or "\\" in value:
        raise PydanticCustomError("path", "must contain only printable characters, and no backslashes")
    if re.search(_DOTS, value):
        raise PydanticCustomError("path", "must not contain the parts . and ..")
    unknown = sorted(set(_PLACEHOLDER.findall(value)) - _PLACEHOLDERS)
    if unknown or re.search(r"[{}]", _PLACEHOLDER.sub("", value)):
        known = ", ".join(f"{{{name}}}" for name in sorted(_PLACEHOLDERS))
        raise PydanticCustomError("path", "unknown placeholder, known ones: {known}", {"known": known})
    return value


def _endpoint(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise PydanticCustomError("endpoint", "must be an http or https URL without a query")
    if "@" in parts.netloc:
        raise PydanticCustomError("endpoint", "must not contain a user name or a password")
    try:
        with_host_in_ascii(value)
    except HostError as error:
        raise PydanticCustomError("endpoint", "{problem}", {"problem": str(error)}) from None
    return value


def _host(value: str) -> str:
    try:
        return normalize_host(value)
    except HostError as error:
        raise PydanticCustomError("host", "{problem}", {"problem": str(error)}) from None


def _whole(value: Any) -> Any:
    # In JSON, 22.0 is an integer too.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _header_value(value: SecretStr) -> SecretStr:
    # It is sent as a header value.
    if not re.fullmatch(_HEADER_VALUE, value.get_secret_value()):
        raise PydanticCustomError("session_token", "must be printable ASCII without spaces")
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Text = Annotated[str, StringConstraints(max_length=1024)]
Path = Annotated[
    str,
    StringConstraints(max_length=512),
    AfterValidator(_path),
    Field(json_schema_extra={"pattern": _PATH, "not": {"pattern": _DOTS}}),
]
Endpoint = Annotated[
    str,
    StringConstraints(max_length=512),
    AfterValidator(_endpoint),
    Field(json_schema_extra={"format": "uri"}),
]
Host = Annotated[
    str,
    StringConstraints(min_length=1, max_length=512),
    AfterValidator(_host),
    Field(json_schema_extra={"format": "host"}),
]
Port = Annotated[int, Field(ge=1, le=65_535, strict=True), BeforeValidator(_whole)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=16_384)]
SessionToken = Annotated[
    SecretStr,
    AfterValidator(_header_value),
    Field(max_length=16_384, json_schema_extra={"pattern": f"^{_HEADER_VALUE}$"}),
]
MetadataKey = Annotated[str, StringConstraints(pattern=_METADATA_KEY)]
"""Metadata is sent in headers; S3 accepts 2 KiB in total."""

MetadataValue = Annotated[
    str,
    StringConstraints(max_length=128),
    *_matching(_METADATA_VALUE, "must be printable ASCII, without spaces at the start or the end"),
]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue], Field(max_length=10, json_schema_extra={"additionalProperties": False})
]
TagKey = Annotated[str, StringConstraints(max_length=128, pattern=rf"^{_TAG}+$")]
TagValue = Annotated[str, StringConstraints(max_length=256, pattern=rf"^{_TAG}*$")]
HostKey = Annotated[
    str,
    *_matching(
        r"^SHA256:[A-Za-z0-9+/]{43}=?$",
        "must be a fingerprint as `ssh-keygen -l` shows it, SHA256: and 43 characters",
    ),
]
Tags = Annotated[
    dict[TagKey, TagValue], Field(max_length=10, json_schema_extra={"additionalProperties": False})
]
PresetName = Annotated[str, *_matching(PRESET_NAME, PRESET_NAME_RULE)]


class _Target(BaseModel):
    # Not strict: secrets arrive as plain strings.
    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: Name
    path: Path = ""


class OwnEncryption(BaseModel):
    """Encryption at rest with S3's own key (SSE-S3)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["SSE-S3"]


class KmsEncryption(BaseModel):
    """Encryption at rest with an Amazon KMS key (SSE-KMS), by default the account's key for S3."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["SSE-KMS"]
    kms_key_id: Name | None = None


Encryption = Annotated[OwnEncryption | KmsEncryption, Discriminator("type")]


class _S3Target(_Target):
    access_key: Name
    secret: Secret
    session_token: SessionToken | None = Field(
        default=None,
        validation_alias=AliasChoices("session_token", "sessionToken"),
        description="of temporary credentials; `sessionToken` is the same",
    )
    encryption: Encryption | None = None
    metadata: Metadata = {}
    tags: Tags = {}


class AwsTarget(_S3Target):
    """A bucket of Amazon S3."""

    type: Literal["aws"]
    region: Name


class DigitalOceanTarget(_S3Target):
    """A Space."""

    type: Literal["digitalocean"]
    region: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,32}$")]


class CloudflareTarget(_S3Target):
    """A bucket of Cloudflare R2."""

    type: Literal["cloudflare"]
    account_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,64}$")]
    region: Text = ""


class S3Target(_S3Target):
    """A bucket of any S3-compatible server."""

    type: Literal["s3"]
    endpoint: Endpoint
    region: Text = ""


class AzureTarget(_Target):
    """A container of Azure Blob Storage; `access_key` is the connection string, or a URL with a signature."""

    type: Literal["azure"]
    access_key: Secret
    secret: Literal[""] = ""
    region: Text = ""


class GcsTarget(_Target):
    """A bucket of Google Cloud Storage; `secret` is the service account's JSON."""

    type: Literal["gcs"]
    secret: Secret
    access_key: Text = ""
    region: Text = ""


class SftpTarget(BaseModel):
    """A directory of an SFTP server; `password` is the private key's pass phrase if there is such a key."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "anyOf": [
                {
                    "properties": {"auth_method": {"const": method}, needed: {"type": "string"}},
                    "required": [needed],
                }
                for method, needed in (("KEY", "private_key"), ("PASSWORD", "password"))
            ]
        },
    )

    type: Literal["sftp"]
    host: Host
    port: Port = 22
    username: Name
    auth_method: Literal["KEY", "PASSWORD"]
    password: Annotated[SecretStr, Field(max_length=1024)] | None = None
    private_key: Secret | None = None
    path: Path = ""
    host_key: HostKey | None = None
    # The recording API's examples send these with every type.
    bucket: Text = ""
    access_key: Literal[""] = ""
    secret: Literal[""] = ""
    region: Literal[""] = ""

    @model_validator(mode="after")
    def _has_what_its_method_needs(self) -> "SftpTarget":
        if self.auth_method == "KEY" and self.private_key is None:
            raise PydanticCustomError("private_key", "private_key is required with auth_method KEY")
        if self.auth_method == "PASSWORD" and self.password is None:
            raise PydanticCustomError("password", "password is required with auth_method PASSWORD")
        return self


Target = Annotated[
    AwsTarget | AzureTarget | CloudflareTarget | DigitalOceanTarget | GcsTarget | S3Target | SftpTarget,
    Discriminator("type"),
]
"""A customer's storage."""

TARGET: TypeAdapter[Target] = TypeAdapter(Target)


class PresetTarget(BaseModel):
    """A named storage of the organization, see `farm.storage.presets`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["preset"]
    name: PresetName


StorageConfig = Annotated[Target | PresetTarget, Discriminator("type")]
"""`storage_config` of a request."""

_AZURE_DEVELOPMENT = "http://127.0.0.1:10000/devstoreaccount1"

_SECRETS = frozenset({"secret", "password", "private_key", "access_key", "session_token"})


def public(target: Target | PresetTarget) -> dict[str, Any]:
    """The public part of a target: everything but its secrets."""
    return target.model_dump(mode="json", exclude=set(_SECRETS), exclude_defaults=True) | {
        "type": target.type
    }


def is_same_place(one: Target, other: Target) -> bool:
    """Whether two targets are the same except for their secrets."""
    return (public(one), endpoint_of(one)) == (public(other), endpoint_of(other))


def with_secrets(target: Target | PresetTarget) -> dict[str, Any]:
    """All of a target, for sealing; `TARGET` parses it again."""
    plain = target.model_dump()
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in plain.items()
    }


def endpoint_of(target: Target) -> str | None:
    """The HTTP endpoint of a target; None for Amazon's or Google's default, and for SFTP."""
    match target:
        case S3Target():
            return with_host_in_ascii(target.endpoint)
        case DigitalOceanTarget():
            return f"https://{target.region.lower()}.digitaloceanspaces.com"
        case CloudflareTarget():
            return f"https://{target.account_id}.r2.cloudflarestorage.com"
        case AzureTarget():
            return _azure_endpoint(azure_connection(target))
        case _:
            return None


def azure_connection(target: AzureTarget) -> str:
    """The connection string of a target, which may have a SAS URL instead.

    Azure's portal shows SAS URLs of an account, a container or a directory.
    """
    given = target.access_key.get_secret_value().strip()
    if not given.lower().startswith(("https://", "http://")):
        return given
    parts = urlsplit(given)
    account, found, _ = f"{parts.path.rstrip('/')}/".partition(f"/{target.bucket}/")
    path = account if found else parts.path.rstrip("/")
    return f"BlobEndpoint={parts.scheme}://{parts.netloc}{path};SharedAccessSignature={parts.query}"


def _azure_endpoint(connection_string: str) -> str | None:
    """The endpoint of a connection string, as azure.storage.blob reads it; None if it has none."""
    parts = (part.partition("=") for part in connection_string.rstrip(";").split(";"))
    values = {name.upper(): value for name, _, value in parts}
    if values.get("USEDEVELOPMENTSTORAGE") == "true":
        return _AZURE_DEVELOPMENT
    if "BLOBENDPOINT" in values:
        return values["BLOBENDPOINT"]
    if "ACCOUNTNAME" not in values:
        return None
    suffix = values.get("ENDPOINTSUFFIX", "core.windows.net")
    return f"{values.get('DEFAULTENDPOINTSPROTOCOL', 'https')}://{values['ACCOUNTNAME']}.blob.{suffix}"


def key_of(path: str, name: str, values: Mapping[str, str], invoked: datetime) -> str:
    """The key of a file: the target's path with its placeholders filled in, and the file name.

    Values of placeholders come from clients, so they are reduced to letters, digits and `._=-`.
    """

    day = invoked.astimezone(UTC)
    known = {
        **values,
        "date": f"{day:%Y-%m-%d}",
        "year": f"{day:%Y}",
        "month": f"{day:%m}",
        "day": f"{day:%d}",
    }
    filled = _PLACEHOLDER.sub(lambda match: _safe(known[match[1]]), path)
    return "/".join(part for part in [*filled.split("/"), name] if part)


def _safe(value: str) -> str:
    text = _UNSAFE.sub("_", value)[:128]
    return quote(text) if text.strip(".") else "_"
