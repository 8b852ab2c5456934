"""Restricts connections to allowed addresses, whatever a library does with names and redirects.

The endpoint of a customer's storage is untrusted. Its address is checked when it is configured, but DNS may
change later, and a server may redirect. So each connection is checked again when it is opened: Python calls
an audit hook (PEP 578, `socket.connect`) with the actual address.

Host names are also resolved here first, with the farm's own time-out: the system's resolver, which libraries
use, takes half a minute for a name without an answer, and libraries retry.
"""

import errno
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Any

from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.browser_bot.network.dns import resolve_here, unresolved_message
from recording_farm.browser_bot.network.host_names import normalize_host, parse_address
from recording_farm.farm.storage.backend import StorageError

logger = logging.getLogger(__name__)


@dataclass
class _Guard:
    """The rule in force, the host whose address it rejected, and why a name was not resolved."""

    rule: AddressRule
    forbidden: str | None = None
    unresolved: str | None = None


_guard: ContextVar[_Guard | None] = ContextVar("allowed_addresses", default=None)


@contextmanager
def only_allowed_addresses(rule: AddressRule | None) -> Iterator[None]:
    """Allow this context to connect only to addresses that `rule` allows; None allows all.

    Threads have their own contexts, see `farm.storage.backends.threads`. Raises StorageError instead of a
    library's error for a rejected connection.
    """
    _install()
    guard = _Guard(rule or AddressRule(allow_all=True))
    token = _guard.set(guard)
    try:
        yield
    except Exception as error:
        if guard.forbidden is None:
            if guard.unresolved is not None and isinstance(error, StorageError):
                raise StorageError("unreachable", guard.unresolved) from error
            raise
        logger.info("the storage has the address %s, which is not allowed", guard.forbidden)
        # A customer knows the host of the storage, but must not learn its address from the farm.
        text = "the storage has a private address; allow it with FARM_ALLOW_PRIVATE_ADDRESSES"
        raise StorageError("address_refused", text, lasting=True) from error
    finally:
        _guard.reset(token)


@cache
def _install() -> None:
    # Hooks cannot be removed, and most processes never need this one.
    sys.addaudithook(_look_at)


def _look_at(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in {"socket.connect", "socket.getaddrinfo"} or (guard := _guard.get()) is None:
        return
    if event == "socket.getaddrinfo":
        guard.unresolved = _why_unresolved(arguments[0])
        if guard.unresolved is not None:
            raise socket.gaierror(socket.EAI_AGAIN, guard.unresolved)
        return
    connection, address = arguments
    if connection.family == socket.AF_UNIX:
        return
    host = address[0] if connection.family in {socket.AF_INET, socket.AF_INET6} else ""
    if not _is_allowed(host, guard.rule):
        guard.forbidden = str(host)
        # Libraries treat this as an unreachable host, and close the socket.
        raise PermissionError(errno.EACCES, "connections to this address are not allowed")


def _why_unresolved(host: object) -> str | None:
    """Why a name cannot be resolved in time; None if it can, or is not a name."""
    try:
        name = normalize_host(host.decode() if isinstance(host, bytes) else str(host or "localhost"))
    except ValueError:
        return None  # the system's resolver reports the error to the library
    if parse_address(name) is not None or name == "localhost" or resolve_here(name):
        return None
    return unresolved_message(name)


def _is_allowed(host: object, rule: AddressRule) -> bool:
    try:
        # Anything but an address is a name, which the system would resolve next.
        return isinstance(host, str) and rule.is_allowed(ip_address(host))
    except ValueError:
        return False
