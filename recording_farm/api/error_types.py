"""All `type`s of API errors, each with its status, meaning and remedy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from recording_farm.api import http_errors
from recording_farm.farm import errors
from recording_farm.farm.errors import FarmError
from recording_farm.farm.storage import presets


@dataclass(frozen=True)
class ErrorType:
    """A `type`: its HTTP status, its meaning and the remedy."""

    status: int
    meaning: str
    remedy: str


def _from_tree() -> Iterator[tuple[str, ErrorType]]:
    for module in (errors, http_errors, presets):
        for error in vars(module).values():
            if isinstance(error, type) and issubclass(error, FarmError) and "remedy" in vars(error):
                meaning = (error.__doc__ or "").partition("\n\n")[0]
                if error.remedy:
                    yield error.code, ErrorType(error.http_status, meaning, error.remedy)


_WITHOUT_CLASS: Final = {
    "method_not_allowed": ErrorType(
        405, "The path does not support this method.", "Use a method of the header `Allow`."
    ),
    "range_not_satisfiable": ErrorType(
        416, "The requested range lies outside the file.", "Ask for a range below `file_size`."
    ),
    "origin_refused": ErrorType(
        403,
        "A page of this origin cannot use the API.",
        "Let the operator add the origin to `FARM_CORS_ORIGINS`.",
    ),
    "not_ready": ErrorType(
        503,
        "Redis or the store does not work, see `data` of `/readyz`.",
        "Let the operator repair it; its log says more.",
    ),
    "storage_error": ErrorType(
        500,
        "The farm cannot read the file from its store.",
        "The operator finds the reason in the farm's log.",
    ),
    "disconnected": ErrorType(
        400, "The client closed the connection before the whole body arrived.", "Send the request again."
    ),
    "request_timeout": ErrorType(
        408, "The request did not arrive in time.", "Send the request again, without pauses."
    ),
    "header_too_large": ErrorType(
        431, "The header of the request is larger than 32 KiB.", "Send a smaller header, or fewer cookies."
    ),
    "malformed_http": ErrorType(400, "The request is not valid HTTP.", "Use another HTTP client."),
    "too_many_connections": ErrorType(
        429,
        "The address has too many connections at the same time, or the farm has (503).",
        "Close connections; the operator can raise `FARM_CONNECTIONS_PER_ADDRESS`, and must set "
        "`FARM_TRUSTED_PROXIES` behind a proxy.",
    ),
    "internal_error": ErrorType(
        500, "The farm has a defect.", "Report it with the traceback in the farm's log."
    ),
}

ERROR_TYPES: Final[Mapping[str, ErrorType]] = dict(sorted({**dict(_from_tree()), **_WITHOUT_CLASS}.items()))
"""By their names, in alphabetical order."""
