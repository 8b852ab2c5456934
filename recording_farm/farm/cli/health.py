"""`farm health`: do the API and the worker on this machine work? For a container's health check."""

from typing import Final

import httpx

from recording_farm.farm.config.settings import Settings, local_address

_SECONDS: Final = 4.0
"""Time-out of the connection to each of them, and of its answer."""

MAX_LENGTH: Final = 2 * 2 * _SECONDS
"""Seconds that both checks, one after the other, take at most; the container's time-out has to be longer."""


def check_health(settings: Settings) -> dict[str, bool]:
    """Whether the `api` and the `worker` work; one that does not listen on this machine is left out."""
    urls = {"api": settings.local_url}
    if settings.node_port is not None:
        urls["worker"] = local_address(settings.node_host, settings.node_port)
    found = {}
    # A proxy of the environment is not for this machine.
    # Nothing secret is sent, and the certificate of the API has its public name.
    with httpx.Client(timeout=_SECONDS, trust_env=False, verify=False) as client:  # noqa: S501
        for part, url in urls.items():
            try:
                found[part] = client.get(f"{url}/healthz").status_code == httpx.codes.OK
            except httpx.ConnectError:
                continue  # it does not run here
            except httpx.TransportError:
                found[part] = False
    return found
