"""FARM_STORE_URL: the location of the store."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit


class StoreKind(StrEnum):
    """The kind of a store; the URL's scheme."""

    DIRECTORY = "file"
    S3 = "s3"
    AZURE = "azure"


@dataclass(frozen=True)
class StoreLocation:
    """The location of a store: a `directory`, or a bucket or container with a key prefix.

    `prefix` is empty or ends with a slash. `endpoint` and `region` are for S3; None means Amazon's default.
    """

    kind: StoreKind
    directory: Path | None = None
    bucket: str = ""
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None


_PARAMETERS: Final = {
    StoreKind.DIRECTORY: frozenset[str](),
    StoreKind.S3: frozenset({"endpoint", "region"}),
    StoreKind.AZURE: frozenset[str](),
}


def parse_store_url(url: str) -> StoreLocation:
    """Parse `file:///directory`, `s3://bucket/prefix?endpoint=https://…&region=…` or `azure://container/prefix`.

    Raises ValueError with one sentence that does not repeat the URL, which may contain a secret by mistake.
    """
    parts = urlsplit(url)
    try:
        kind = StoreKind(parts.scheme)
    except ValueError:
        raise ValueError("must begin with file://, s3:// or azure://") from None
    if "@" in parts.netloc:
        raise ValueError("must not contain a key; use FARM_STORE_ACCESS_KEY and FARM_STORE_SECRET")
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = parameters.keys() - _PARAMETERS[kind]
    if unknown or parts.fragment:
        known = ", ".join(sorted(_PARAMETERS[kind])) or "none"
        raise ValueError(f"has unknown parameters; known for {kind}:// are: {known}")
    if kind is StoreKind.DIRECTORY:
        return StoreLocation(kind, directory=_directory(parts.netloc, unquote(parts.path)))
    if not parts.netloc:
        raise ValueError("must name a bucket or container after the two slashes")
    endpoint = parameters.get("endpoint") or None
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise ValueError("has an endpoint that does not begin with http:// or https://")
    prefix = unquote(parts.path).strip("/")
    return StoreLocation(
        kind,
        bucket=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
        endpoint=endpoint,
        region=parameters.get("region") or None,
    )


def _directory(host: str, path: str) -> Path:
    if host not in ("", "localhost") or not path.startswith("/"):
        raise ValueError("must name a directory of this machine with three slashes, file:///directory")
    return Path(path)
