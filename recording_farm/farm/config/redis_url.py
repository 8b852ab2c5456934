"""The address of Redis, as FARM_REDIS_URL has it: one server, or a set of Sentinels that know the master.

    redis://user:password@host:6379/0             rediss:// is the same by TLS
    unix:///run/redis.sock?db=0
    redis+sentinel://user:password@host:26379,host:26379/master/0
                                                  the Sentinels, the master's name, the database; with
                                                  rediss+sentinel:// all of them are spoken to by TLS

User and password are those of the servers (ACL). What follows a question mark is handed to redis-py:
`ssl_ca_certs=/etc/farm/ca.pem` is who signed the servers' certificates, `ssl_certfile` and `ssl_keyfile` are
a client's own. Sentinels that want credentials too get those of `sentinel_username` and `sentinel_password`.
"""

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

_SENTINEL_PORT: Final = 26379
"""As Redis' documentation has it."""

_SENTINEL_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}


@dataclass(frozen=True)
class Sentinels:
    """Where Sentinels listen, and the master that they are asked for."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    tls: bool
    servers: dict[str, Any] = field(repr=False)
    """What redis-py's connections to a server are made with."""
    credentials: dict[str, Any] = field(repr=False)
    """The same for the Sentinels themselves."""


def parse_redis_address(address: str) -> Sentinels | None:
    """The Sentinels that an address names; None for that of one server.

    Raises ValueError when it is none that redis-py could use; the message repeats nothing of it.
    """
    from redis.connection import parse_url  # the settings are read before anything needs all of redis-py

    try:
        parts = urlsplit(address)
        if parts.scheme in _SENTINEL_SCHEMES:
            return _sentinels(parts)
        if parts.scheme in ("redis", "rediss", "unix"):
            parse_url(address)  # type: ignore[no-untyped-call]
            return None
    except ValueError:
        # redis-py's and urllib's own words may have a password in them.
        raise ValueError("is no address of Redis that can be used") from None
    raise ValueError("must begin with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://")


def _sentinels(parts: SplitResult) -> Sentinels:
    from redis.connection import parse_url

    user, _, hosts = parts.netloc.rpartition("@")
    master, _, database = parts.path.removeprefix("/").partition("/")
    if not hosts or not master:
        raise ValueError("names no Sentinel, or no master")
    scheme = _SENTINEL_SCHEMES[parts.scheme]
    # One server's address with the same credentials and options is what redis-py can read.
    plain = f"{scheme}://{user}@placeholder/{database or 0}?{parts.query}"
    options = parse_url(plain)  # type: ignore[no-untyped-call]
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    names = {"sentinel_username": "username", "sentinel_password": "password"}
    own = {name: options.pop(option) for option, name in names.items() if option in options}
    shared = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return Sentinels(
        hosts=tuple(_host(host) for host in hosts.split(",")),
        master=unquote(master),
        tls=scheme == "rediss",
        servers=options,
        credentials={**shared, **own},
    )


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text.strip()}")
    if not parts.hostname:
        raise ValueError("a Sentinel has no name")
    return parts.hostname, parts.port or _SENTINEL_PORT
