"""Whether the parts of the farm on this machine can work, as they say themselves; for a container's check."""

from typing import Final

import httpx

from recording_farm.farm.config.settings import Settings, local_address

_SECONDS: Final = 4.0
"""In which a part must take the connection, and again in which it must answer."""

MAX_LENGTH: Final = 2 * 2 * _SECONDS
"""Seconds that asking both parts, one after the other, takes at most. Whoever runs it waits longer."""


def ask_here(settings: Settings) -> dict[str, bool]:
    """Those parts that listen here, the `api` and the `worker`, and whether each can work."""
    urls = {"api": settings.local_url}
    if settings.node_port is not None:
        urls["worker"] = local_address(settings.node_host, settings.node_port)
    found = {}
    # Whoever asks at home needs no proxy, whatever the environment says.
    with httpx.Client(timeout=_SECONDS, trust_env=False) as client:
        for part, url in urls.items():
            try:
                found[part] = client.get(f"{url}/healthz").status_code == httpx.codes.OK
            except httpx.ConnectError:
                continue  # it does not run here
            except httpx.TransportError:
                found[part] = False
    return found
