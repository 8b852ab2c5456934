"""Host keys of customers' SFTP servers, trusted on first use.

Key
    farm:host_keys:{org}    hash: the fingerprint (`SHA256:…`) of the host key, by the server's host:port
"""

from typing import cast

import redis

from recording_farm.farm.storage.targets import SftpTarget


class HostKeys:
    """The known host keys of organizations' servers.

    Every method raises redis.RedisError when Redis cannot be reached.
    """

    def __init__(self, client: redis.Redis) -> None:
        """`client` must be thread-safe."""
        self._redis = client

    def known(self, organization_id: str, target: SftpTarget) -> str | None:
        """The expected fingerprint: the target's own, or that of the first use; None before it."""
        if target.host_key is not None:
            return target.host_key
        kept = cast("bytes | None", self._redis.hget(_key(organization_id), _server(target)))
        return kept.decode() if kept is not None else None

    def keep(self, organization_id: str, target: SftpTarget, fingerprint: str) -> None:
        """Save the host key of a server after its first use.

        It replaces a saved one only if the target itself names it.
        """
        if target.host_key is not None:
            self._redis.hset(_key(organization_id), _server(target), fingerprint)
        else:
            self._redis.hsetnx(_key(organization_id), _server(target), fingerprint)


def _key(organization_id: str) -> str:
    return f"farm:host_keys:{organization_id}"


def _server(target: SftpTarget) -> str:
    return f"{target.host.lower()}:{target.port}"
