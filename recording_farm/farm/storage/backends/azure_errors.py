"""Azure's error codes, in words for the customer."""

from typing import Final, cast

from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpResponse

_NO_CONTAINER: Final = ("no_bucket", "there is no container {container}")
_BAD_NAME: Final = ("no_bucket", "{container} is not a valid container name")
WRONG_KEY: Final = ("wrong_key", "the storage rejects the account's key or signature")
_NO_PERMISSION: Final = ("no_permission", "the key has no permission for this in the container {container}")
REASONS: Final = {
    "ContainerNotFound": _NO_CONTAINER,
    "ContainerBeingDeleted": _NO_CONTAINER,
    "ContainerDisabled": ("no_permission", "the container {container} is disabled"),
    "InvalidResourceName": _BAD_NAME,
    "OutOfRangeInput": _BAD_NAME,
    "AuthenticationFailed": WRONG_KEY,
    "InvalidAuthenticationInfo": WRONG_KEY,
    "NoAuthenticationInformation": WRONG_KEY,
    "AccountIsDisabled": ("no_permission", "the account is disabled"),
    "AuthorizationFailure": _NO_PERMISSION,
    "AuthorizationPermissionMismatch": _NO_PERMISSION,
    "AuthorizationProtocolMismatch": _NO_PERMISSION,
    "AuthorizationResourceTypeMismatch": _NO_PERMISSION,
    "AuthorizationServiceMismatch": _NO_PERMISSION,
    "AuthorizationSourceIPMismatch": ("no_permission", "the key is not valid from this address"),
    "InsufficientAccountPermissions": _NO_PERMISSION,
    "KeyBasedAuthenticationNotPermitted": ("no_permission", "the account does not allow access by key"),
    "UnauthorizedBlobOverwrite": ("no_permission", "the key may not replace existing files"),
    "BlobImmutableDueToPolicy": ("no_permission", "a policy protects the existing file"),
}
"""Azure's error codes in words for the customer. All are lasting: the customer must change something."""

_REFUSED: Final = frozenset(
    {
        "AuthorizationFailure",
        "AuthorizationPermissionMismatch",
        "AuthorizationResourceTypeMismatch",
        "InsufficientAccountPermissions",
    }
)
"""Error codes for missing permissions; the credentials may still allow other operations."""


def code_of(error: HttpResponseError) -> str:
    """Azure's error code; empty if there is none."""
    code = getattr(error, "error_code", None)  # the storage library adds it, where it is asked itself
    if code is None and error.response is not None:
        code = cast("HttpResponse", error.response).headers.get("x-ms-error-code")
    return str(getattr(code, "value", code) or "")


def may_not(error: HttpResponseError) -> bool:
    """Whether the error is a missing permission. Responses to HEAD may have no error code."""
    return error.status_code == 403 and code_of(error) in _REFUSED | {""}
