import shutil

import httpx
import redis
from starlette.applications import Starlette

from recording_farm.api.services.store_watch import StoreWatch
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.nodes.registry import Nodes, NoRoom
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.store import open_store
from recording_farm.farm.telemetry.shared_settings import SharedSettings, shared_values
from testkit.api.client import client_of
from testkit.settings import settings_with
from testkit.waiting import until


async def test_api_should_be_ready_and_tell_how_many_nodes_take_recordings(
    client: httpx.AsyncClient, redis_client: redis.Redis
) -> None:
    async def recording_nodes() -> tuple[int, dict[str, int]]:
        answer = await client.get("/readyz", auth=None)
        assert answer.status_code == 200
        data = answer.json()["data"]
        assert (data["redis"], data["store"]) == ("ready", "ready")
        return data["recording_nodes"], data["refusing_nodes"]

    assert await recording_nodes() == (0, {})
    nodes = Nodes(redis_client)
    for name in ("node-1", "node-2", "node-3", "node-4"):
        nodes.beat(name, 2, draining=name == "node-4")
    assert await recording_nodes() == (3, {"draining": 1})
    nodes.drain("node-2")
    assert await recording_nodes() == (2, {"drained": 1, "draining": 1})
    nodes.mark_gone("node-1", nodes.beats()["node-1"])
    nodes.beat("node-3", 2, no_room=NoRoom(reason="disk", message="299 MiB of disk free"))
    assert await recording_nodes() == (0, {"disk": 1, "drained": 1, "draining": 1, "gone": 1})


async def test_farm_without_redis_should_say_what_is_missing(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": "unix:///nowhere/redis.sock"})
    async with client_of(away) as client:
        answer = await client.get("/readyz", auth=None)
    assert answer.status_code == 503
    assert answer.json()["data"] == {
        "redis": "failed",
        "redis_fault": "away",
        "store": "ready",
        "differing_settings": None,
        "recording_nodes": None,
        "refusing_nodes": None,
    }


async def test_store_that_takes_nothing_should_be_reported_without_why(
    settings: Settings, app: Starlette
) -> None:
    store = settings.data_dir / "store"
    shutil.rmtree(store, ignore_errors=True)
    store.parent.mkdir(parents=True, exist_ok=True)
    store.write_text("a file where the store should be")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://farm.test") as client:
        answer = await client.get("/readyz")
    assert answer.json()["data"]["store"] == "failed"
    assert str(settings.data_dir) not in answer.text


async def test_store_should_be_tried_seldom(settings: Settings) -> None:
    store = open_store(settings_with(settings.data_dir, None))
    tries = 0

    def count() -> None:
        nonlocal tries
        tries += 1
        raise StorageError("failed", "broken")

    store.check = count  # type: ignore[method-assign]
    watch = StoreWatch(store)
    assert [await watch.is_ready() for _ in range(3)] == [False, False, False]
    assert tries == 1


async def test_other_machine_with_another_secret_should_be_reported_and_not_end_readiness(
    settings: Settings, redis_client: redis.Redis
) -> None:
    async with client_of(settings) as client:

        async def is_published() -> bool:
            return bool(redis_client.hlen("farm:fingerprints"))

        await until(is_published)
        other = settings_with(settings.data_dir, settings.redis_url, secret_key="another one of 16")
        shared = SharedSettings(redis_client, "worker on node-2", shared_values(other, "another key"))
        assert shared.publish()["FARM_SECRET_KEY"] == [f"api on {settings.node}, port {settings.port}"]
        answer = await client.get("/readyz", auth=None)
        assert answer.status_code == 200
        assert answer.json()["data"]["differing_settings"] == ["FARM_SECRET_KEY", "FARM_WEBHOOK_KEY"]
    assert redis_client.hkeys("farm:fingerprints") == [b"worker on node-2"]
