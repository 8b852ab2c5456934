"""What customers entrust to the farm is found nowhere but sealed."""

import json
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from testkit.network.ports import free_port
from testkit.running_farm import running_farm

pytestmark = pytest.mark.long

SECRETS = {
    "aws": "hunter2-of-aws",
    "s3": "hunter2-of-s3",
    "azure": "hunter2OfAzure++++++++++++++++++++++++++++++++++++++++++==",
    "gcs": "hunter2-of-gcs",
    "sftp": "hunter2-of-sftp",
    "passphrase": "hunter2-of-the-passphrase",
}
METRICS_TOKEN = "hunter2-of-the-metrics"
CONFIGS: list[dict[str, Any]] = [
    {
        "type": "aws", "access_key": "AKIA-hunter2", "secret": SECRETS["aws"], "bucket": "b",
        "region": "eu-west-1",
    },
    {
        "type": "s3", "access_key": "AKIA-hunter2", "secret": SECRETS["s3"], "bucket": "b",
        "endpoint": "http://127.0.0.1:9",
    },
    {
        "type": "azure", "bucket": "films",
        "access_key": "DefaultEndpointsProtocol=http;AccountName=a;"
        f"AccountKey={SECRETS['azure']};BlobEndpoint=http://127.0.0.1:9/a;",
    },
    {
        "type": "gcs", "bucket": "films",
        "secret": json.dumps({"client_email": "a@b.c", "private_key": SECRETS["gcs"]}),
    },
    {
        "type": "sftp", "host": "127.0.0.1", "port": 9, "username": "me", "auth_method": "PASSWORD",
        "password": SECRETS["sftp"],
    },
    {
        "type": "sftp", "host": "127.0.0.1", "port": 9, "username": "me", "auth_method": "KEY",
        "password": SECRETS["passphrase"], "private_key": "-----BEGIN hunter2-----",
    },
]  # fmt: skip

ACCESS: dict[str, Any] = {
    "http_credentials": [{"username": "recorder", "password": "hunter2-of-the-page"}],
    "headers": {"X-Key": "hunter2-of-the-header"},
    "cookies": [{"name": "session", "value": "hunter2-of-the-cookie"}],
}


def holds_secret(data: bytes) -> bool:
    return b"hunter2" in data


def everything_in(client: redis.Redis) -> dict[str, bytes]:
    """All that Redis holds, by its keys; what RQ has compressed is unpacked."""
    found: dict[str, bytes] = {}
    for key in client.scan_iter():
        kind = client.type(key)
        values: list[Any]
        match kind:
            case b"string":
                values = [client.get(key)]
            case b"hash":
                values = [part for pair in client.hgetall(key).items() for part in pair]
            case b"list":
                values = client.lrange(key, 0, -1)
            case b"set":
                values = list(client.smembers(key))
            case b"zset":
                values = client.zrange(key, 0, -1)
            case b"stream":
                values = [repr(client.xrange(key)).encode()]
            case _:
                raise AssertionError(kind)
        found[key.decode()] = b"\n".join(unpacked(value) for value in values)
    return found


def unpacked(value: Any) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode()
    try:
        return data + zlib.decompress(data)
    except zlib.error:
        return data


@pytest.mark.timeout(300)
def test_secrets_should_be_found_nowhere(pages: str, tmp_path: Path) -> None:
    node_port = free_port()
    with running_farm(
        tmp_path / "data",
        FARM_METRICS_TOKEN=METRICS_TOKEN,
        FARM_NODE_PORT=str(node_port),
        FARM_LOG_FORMAT="json",
    ) as farm:
        answers: list[bytes] = []

        def ask(method: str, path: str, body: Any = None) -> dict[str, Any]:
            answer = farm.client.request(method, path, json=body)
            answers.append(answer.content)
            data: dict[str, Any] = answer.json().get("data")
            return data

        for number, config in enumerate(CONFIGS):
            assert ask("POST", "/v2/storage/check", {"storage_config": config})["ok"] is False
            ask("PUT", f"/v2/storage/presets/p{number}", {"storage_config": config})
            ask("GET", f"/v2/storage/presets/p{number}")
            ask("PUT", f"/v2/meetings/m{number}/recording_config", {"storage_config": config})
            ask("GET", f"/v2/meetings/m{number}/recording_config")
            # A field that is wrong, beside secrets that are not.
            ask("POST", "/v2/storage/check", {"storage_config": config | {"path": "../hunter"}})
            ask("POST", "/v2/recordings", {"meeting_id": "x", "storage_config": config | {"nonsense": 1}})
        ask("PUT", "/v2/recording_config", {"storage_config": {"type": "preset", "name": "p0"}})
        ask("GET", "/v2/storage/presets")
        ask("PUT", "/v2/meetings/entered/recording_config", {"url": f"{pages}/page.html", **ACCESS})
        assert ask("GET", "/v2/meetings/entered/recording_config")["cookies"] == [{"name": "session"}]
        ask(
            "POST",
            "/v2/recordings",
            {"meeting_id": "x", "headers": {"Host": "hunter2"}, **ACCESS, "nonsense": 1},
        )
        started = farm.start(url=f"{pages}/page.html", storage_config=CONFIGS[1], **ACCESS)
        farm.wait_for(started["id"], "RECORDING")
        farm.order(started["id"], "stop")
        recording = farm.wait_for(started["id"], "UPLOADING")
        while recording["transfers"][0]["state"] != "DONE":
            recording = farm.wait_for(started["id"], "UPLOADING")
        for config in CONFIGS[2:]:
            recording = ask("POST", f"/v2/recordings/{started['id']}/upload", {"storage_config": config})
        while any(transfer["error"] is None for transfer in recording["transfers"][1:]):
            recording = farm.wait_for(started["id"], "UPLOADING")
        ask("GET", f"/v2/recordings/{started['id']}")
        ask("GET", "/v2/recordings")
        for address in (str(farm.client.base_url), f"http://127.0.0.1:{node_port}"):
            for token in (METRICS_TOKEN, f"{METRICS_TOKEN}-wrong"):
                metrics = httpx.get(
                    f"{address}/metrics", headers={"Authorization": f"Bearer {token}"}, timeout=20
                )
                assert metrics.status_code == (200 if token == METRICS_TOKEN else 401)
                answers.append(metrics.content)
        assert {transfer["target"] for transfer in recording["transfers"]} == {
            *("store", "s3", "azure", "gcs", "sftp", "sftp-2"),
        }
        with connect(Settings(data_dir=farm.data_dir).embedded_redis_address) as client:
            kept = everything_in(client)
            sealed = [key for key in kept if key.startswith("farm:targets:")]
            jobs = [key for key in kept if key.startswith("rq:job:")]
    assert sealed
    assert jobs
    assert [key for key, value in kept.items() if holds_secret(key.encode() + value)] == []
    assert [answer for answer in answers if holds_secret(answer)] == []
    files = [path for path in farm.data_dir.rglob("*") if path.is_file()]
    assert {"farm.log", "recorder.log"} <= {path.name for path in files}
    assert [path for path in files if holds_secret(str(path).encode() + path.read_bytes())] == []
