"""Connections to addresses that the farm may open alone, whatever a library makes of names and redirects.

Names get the time that they get everywhere in the farm: the system's resolver, which libraries ask, takes
half a minute for one that nobody answers for, and then they ask again.

A customer's storage is named by a stranger. Its address is looked at when it is named, but a name may lead
elsewhere by the time it is used, and a server may send its client on to another one. So every connection is
looked at again when it is made: Python calls an audit hook (PEP 578, `socket.connect`) with the very address.
"""

import errno
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
from recording_farm.browser_bot.network.dns import resolve_here, why_unresolved
from recording_farm.browser_bot.network.host_names import address_in, host_of
from recording_farm.farm.storage.backend import StorageError


@dataclass
class _Guard:
    """The rule that holds, the host whose address it forbade, and why a name was not found."""

    rule: AddressRule
    forbidden: str | None = None
    unresolved: str | None = None


_guard: ContextVar[_Guard | None] = ContextVar("allowed_addresses", default=None)


@contextmanager
def only_allowed_addresses(rule: AddressRule | None) -> Iterator[None]:
    """Let this context connect only where `rule` allows it; None is everywhere.

    Threads are contexts of their own, see `farm.storage.backends.threads`. Raises StorageError in place of
    whatever a library made of a connection that was refused.
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
        text = f"{guard.forbidden} is a private address; allow it with FARM_ALLOW_PRIVATE_ADDRESSES"
        raise StorageError("address_refused", text, lasting=True) from error
    finally:
        _guard.reset(token)


@cache
def _install() -> None:
    # A hook stays as long as the process; most processes never need this one.
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
        # The libraries take it for a host that is down, and close the socket.
        raise PermissionError(errno.EACCES, "connections to this address are not allowed")


def _why_unresolved(host: object) -> str | None:
    """Why a name cannot be looked up in time; None if it can, or is none."""
    try:
        name = host_of(host.decode() if isinstance(host, bytes) else str(host or "localhost"))
    except ValueError:
        return None  # the library is told by the system what is wrong with it
    if address_in(name) is not None or name == "localhost" or resolve_here(name):
        return None
    return why_unresolved(name)


def _is_allowed(host: object, rule: AddressRule) -> bool:
    try:
        # What is no address is a name that the system would look up after this.
        return isinstance(host, str) and rule.is_allowed(ip_address(host))
    except ValueError:
        return False
