"""FARM_REDIS_URL: the address of one Redis server, or of Sentinels.

    redis://user:password@host:6379/0             rediss:// is the same over TLS
    unix:///run/redis.sock?db=0
    redis+sentinel://user:password@host:26379,host:26379/master/0
                                                  the Sentinels, the master's name, the database;
                                                  rediss+sentinel:// uses TLS for all of them

User and password are the servers' (ACL). The query is passed to redis-py: `ssl_ca_certs=/etc/farm/ca.pem` is
the authority of the servers' certificates, `ssl_certfile` and `ssl_keyfile` are a client certificate.
`sentinel_username` and `sentinel_password` are the credentials of the Sentinels.
"""

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

_SENTINEL_PORT: Final = 26379
"""Redis' default."""

_SENTINEL_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}


@dataclass(frozen=True)
class Sentinels:
    """The addresses of Sentinels, and the name of their master."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    tls: bool
    servers: dict[str, Any] = field(repr=False)
    """Options of redis-py's connections to servers."""
    credentials: dict[str, Any] = field(repr=False)
    """Options of connections to the Sentinels."""


def parse_redis_address(address: str) -> Sentinels | None:
    """Parse an address of Sentinels; None for the address of one server.

    Raises ValueError for an invalid address, with a message that does not repeat it.
    """
    from redis.connection import parse_url  # a slow import that most users of the settings do not need

    try:
        parts = urlsplit(address)
        if parts.scheme in _SENTINEL_SCHEMES:
            return _sentinels(parts)
        if parts.scheme in ("redis", "rediss", "unix"):
            parse_url(address)  # type: ignore[no-untyped-call]
            return None
    except ValueError:
        # Messages of redis-py and urllib may contain the password.
        raise ValueError("is not a valid address of Redis") from None
    raise ValueError("must begin with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://")


def _sentinels(parts: SplitResult) -> Sentinels:
    from redis.connection import parse_url

    user, _, hosts = parts.netloc.rpartition("@")
    master, _, database = parts.path.removeprefix("/").partition("/")
    if not hosts or not master:
        raise ValueError("names no Sentinel, or no master")
    scheme = _SENTINEL_SCHEMES[parts.scheme]
    # redis-py can parse the address of one server with the same credentials and options.
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
