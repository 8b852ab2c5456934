"""A client that does not give up while the API is being killed."""

import asyncio
from typing import Any, Final

import httpx

PATIENCE_SECONDS: Final = 120.0
"""How long one request may fail. The API is away for some 3 s when it is killed."""

_RETRY_SECONDS = 0.5
_LOOK_SECONDS = 1.0
OVER: Final = frozenset({"UPLOADED", "ERRORED"})

Recording = dict[str, Any]
"""A recording as the API shows it."""


class UnansweredError(Exception):
    """The API gave no answer, or none that helps, for too long."""


class Client:
    """Speaks to a farm that may be away. Every method raises UnansweredError when it is away for too long."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """`http` knows the farm's address and a key."""
        self._http = http

    async def start(self, key: str, **wanted: Any) -> Recording:
        """Start a recording; `key` keeps a second try from starting another."""
        return await self._ask("POST", "/v2/recordings", json=wanted, headers={"Idempotency-Key": key})

    async def order(self, recording_id: str, action: str) -> None:
        """Stop, pause or resume; nothing happens to one for which that makes no sense any more."""
        await self._ask("PUT", f"/v2/recordings/{recording_id}", json={"action": action}, conflict=True)

    async def recording(self, recording_id: str) -> Recording:
        """What has become of it."""
        return await self._ask("GET", f"/v2/recordings/{recording_id}")

    async def wait_for(self, recording_id: str, *states: str) -> Recording:
        """Wait until it is in one of the states, or over."""
        while True:
            recording = await self.recording(recording_id)
            if recording["status"] in OVER.union(states):
                return recording
            await asyncio.sleep(_LOOK_SECONDS)

    async def _ask(self, method: str, path: str, *, conflict: bool = False, **more: Any) -> Recording:
        problem = "no answer"
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    try:
                        answer = await self._http.request(method, path, **more)
                    except httpx.TransportError as error:
                        problem = repr(error)
                    else:
                        if answer.is_success or (conflict and answer.status_code == 409):
                            data: Recording = answer.json().get("data", {})
                            return data
                        problem = f"{answer.status_code}: {answer.text}"
                        # Redis may have lost its last second, and know it again soon.
                        if answer.status_code < 500 and answer.status_code != 404:
                            break
                    await asyncio.sleep(_RETRY_SECONDS)
        except TimeoutError:
            pass
        raise UnansweredError(f"{method} {path}: {problem}")
