"""The page of the nodes."""

import redis

from recording_farm.farm.nodes.registry import Condition, Nodes, NoRoom
from testkit.api.portal import Visit


async def test_nodes_and_queues_should_be_for_administrators(
    acme: Visit, other: Visit, redis_client: redis.Redis
) -> None:
    Nodes(redis_client).beat("node-1", 2)
    for path in ("/nodes", "/rq/", "/rq/0/data/queues.json"):
        await acme.see(path)
        assert "administrators" in await other.see(path, 403)
    assert (await other.send("/nodes/drain", node="node-1", drain="yes")).status_code == 403
    assert not Nodes(redis_client).is_drained("node-1")
    assert "/nodes" not in await other.see("/")


async def test_nodes_should_show_how_they_are_and_be_drained(acme: Visit, redis_client: redis.Redis) -> None:
    nodes = Nodes(redis_client)
    condition = Condition(
        recordings=1, warm_stages=1, load=0.42, disk_free=3 << 30, disk_size=10 << 30, memory_free=2 << 30
    )
    nodes.beat("node-1", 4, condition)
    nodes.beat("node-2", 1)
    page = await acme.see("/nodes")
    for text in ("node-1", "1 of 4", "42 %", "3.0 GiB free", "node-2", "– of 1"):
        assert text in page
    assert (await acme.send("/nodes/drain", node="node-1", drain="yes")).status_code == 303
    assert nodes.is_drained("node-1")
    assert "Resume recording on this node" in await acme.see("/nodes")
    await acme.send("/nodes/drain", node="node-1", drain="no")
    assert not nodes.is_drained("node-1")
    assert (await acme.send("/nodes/drain", node="nowhere", drain="yes")).status_code == 404
    nodes.beat("node-2", 1, draining=True)
    page = await acme.see("/nodes")
    assert [page.count(f'data-state="{state}"') for state in ("ready", "draining")] == [1, 1]


async def test_node_without_room_should_say_what_it_lacks(acme: Visit, redis_client: redis.Redis) -> None:
    nodes = Nodes(redis_client)
    message = "299 MiB of disk free, 2048 MiB required (FARM_DISK_RESERVE)"
    nodes.beat("node-1", 2, no_room=NoRoom(reason="disk", message=message))
    page = await acme.see("/nodes")
    assert "no room: disk" in page
    assert f"Accepts no recordings: {message}." in page
    assert 'data-state="ready"' not in page
