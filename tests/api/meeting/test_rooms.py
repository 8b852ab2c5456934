"""The rooms of the built-in meeting over real WebSockets, with friendly and with hostile clients."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from recording_farm.api.meeting import rooms
from recording_farm.api.meeting.messages import MAX_MESSAGE
from recording_farm.api.meeting.rooms import MAX_BOARD_CHARACTERS, MAX_PEOPLE, Allowance, Outbox
from recording_farm.api.meeting.tokens import TOKEN_PREFIX
from recording_farm.api.routes import meeting
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.records import Records
from testkit.api.client import ACME, OTHER
from testkit.api.serving import served
from testkit.farm import Farm

SECONDS = 20.0
MEDIA = {"audio": True, "video": True, "camera": "{a-b}", "screen": None}


class Client:
    """Somebody's WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def hear(self, kind: str | None = None) -> dict[str, Any]:
        """The next message, or the next of a kind; signs of life are answered, and left out."""
        async with asyncio.timeout(SECONDS):
            while True:
                message: dict[str, Any] = json.loads(await self.connection.recv())
                if message["type"] == "beat":
                    await self.say(type="beat")
                elif kind in (None, message["type"]):
                    return message

    async def is_put_out(self) -> bool:
        """Whether the server closes the connection, whatever else it still says."""
        try:
            async with asyncio.timeout(SECONDS):
                while True:
                    await self.connection.recv()
        except ConnectionClosed:
            return True


@pytest.fixture
async def address(settings: Settings) -> AsyncIterator[str]:
    async with served(settings) as address:
        yield address


def socket_url(address: str, meeting_id: str = "room") -> str:
    return f"{address.replace('http', 'ws', 1)}/meet-rooms/people/{quote(meeting_id, safe='')}"


@asynccontextmanager
async def connected(
    address: str, meeting_id: str = "room", origin: str | None = None
) -> AsyncIterator[Client]:
    async with connect(
        socket_url(address, meeting_id),
        additional_headers={"Origin": origin or address},
        proxy=None,
        open_timeout=SECONDS,
        close_timeout=1,
    ) as connection:
        yield Client(connection)


@asynccontextmanager
async def joined(
    address: str,
    name: str = "Ada",
    meeting_id: str = "room",
    token: str | None = None,
    resume: str | None = None,
) -> AsyncIterator[tuple[Client, dict[str, Any]]]:
    """Somebody in the room, and their welcome message."""
    async with connected(address, meeting_id) as client:
        await client.say(type="join", name=name, media=MEDIA, token=token, resume=resume)
        yield client, await client.hear("welcome")


def fragment_token(link: str) -> str:
    return urlsplit(link).fragment.partition("=")[2]


async def host_token(address: str, meeting_id: str = "room") -> str:
    async with httpx.AsyncClient(base_url=address, auth=ACME) as client:
        answer = await client.post(f"/v2/meetings/{quote(meeting_id, safe='')}/host_link")
    assert answer.status_code == 200, answer.text
    return fragment_token(answer.json()["data"]["url"])


async def recorder_token(address: str, farm: Farm, meeting_id: str = "room") -> str:
    async with httpx.AsyncClient(base_url=address, auth=ACME) as client:
        answer = await client.post("/v2/recordings", json={"meeting_id": meeting_id})
    assert TOKEN_PREFIX not in answer.text
    recording = farm.records.get("acme", answer.json()["data"]["id"])
    return fragment_token(farm.opened(recording).url)


async def test_people_should_see_each_other_come_change_and_go(address: str) -> None:
    async with joined(address, "Ada") as (ada, alone):
        assert (alone["members"], alone["host"]) == ([], False)
        assert alone["recording"] == {"on": False, "paused": False}
        async with joined(address, " 李雷 ") as (lei, welcome):
            assert [member["name"] for member in welcome["members"]] == ["Ada"]
            seen = await ada.hear("joined")
            assert seen["member"] == {"id": welcome["id"], "name": "李雷", "media": MEDIA}
            await lei.say(type="state", media={"audio": False, "video": True})
            changed = (await ada.hear("state"))["member"]
            assert (changed["id"], changed["media"]["audio"]) == (welcome["id"], False)
        assert (await ada.hear("left"))["id"] == welcome["id"]


async def test_signal_should_reach_one_and_say_truly_who_it_is_from(address: str) -> None:
    async with (
        joined(address, "Ada") as (ada, ada_is),
        joined(address, "Bob") as (bob, bob_is),
        joined(address, "Eve") as (eve, eve_is),
    ):
        offer = {"type": "offer", "sdp": "v=0\r\n"}
        await eve.say(type="signal", to=bob_is["id"], description=offer)
        heard = await bob.hear("signal")
        assert heard == {"type": "signal", "from": eve_is["id"], "description": offer}
        # To nobody, and to one in another room.
        async with joined(address, "Far", meeting_id="other") as (far, far_is):
            await eve.say(type="signal", to=far_is["id"], description=offer)
            await eve.say(type="signal", to="nobody", description=offer)
            candidate = {"candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 0}
            await eve.say(type="signal", to=ada_is["id"], candidate=candidate)
            assert (await ada.hear("signal"))["candidate"] == candidate
            await far.say(type="clear")
            async with joined(address, "Farther", meeting_id="other"):
                assert (await far.hear())["type"] == "joined"


async def test_ninth_should_be_told_that_the_meeting_is_full(address: str) -> None:
    async with AsyncExitStack() as people:
        for number in range(MAX_PEOPLE):
            await people.enter_async_context(joined(address, f"Number {number}"))
        async with connected(address) as ninth:
            await ninth.say(type="join", name="Nine", media=MEDIA)
            refused = await ninth.hear()
            assert refused["type"] == "refused"
            assert "full" in refused["message"]
            assert await ninth.is_put_out()


async def test_latecomer_should_get_drawing_and_plugin(address: str) -> None:
    stroke = {"color": "red", "points": [[0.1, 0.2], [0.3, 0.4]]}
    async with joined(address, "Ada") as (ada, _), joined(address, "Bob") as (bob, _):
        await ada.say(type="stroke", **stroke)
        assert (await bob.hear("stroke"))["stroke"] == stroke
        await ada.say(type="plugin", kind="page", url="https://example.com/a?b=c#d")
        shown = await bob.hear("plugin")
        assert shown == {"type": "plugin", "kind": "page", "url": "https://example.com/a?b=c#d"}
        async with joined(address, "Late") as (_, welcome):
            assert welcome["strokes"] == [stroke]
            assert welcome["plugin"]["kind"] == "page"
        await bob.say(type="clear")
        await ada.hear("clear")
        async with joined(address, "Later") as (_, welcome):
            assert welcome["strokes"] == []


async def test_drawing_should_not_grow_without_end(address: str) -> None:
    points = [[0.123456789, 0.987654321]] * 64
    async with joined(address, "Ada") as (ada, _):
        for _ in range(290):
            await ada.say(type="stroke", color="ink", points=points)
        await ada.say(type="stroke", color="green", points=[[1, 1]])
        async with joined(address, "Bob") as (bob, _):
            await ada.say(type="plugin", kind="whiteboard")
            await bob.hear("plugin")
        async with joined(address, "Late") as (_, welcome):
            assert len(json.dumps(welcome["strokes"])) < 2 * MAX_BOARD_CHARACTERS
            assert welcome["strokes"][-1]["color"] == "green"


NONSENSE = [
    "no json",
    "[]",
    '{"type":"unknown"}',
    '{"type":"signal","to":"x","from":"somebody else"}',
    '{"type":"stroke","color":"url(x)","points":[[0,0]]}',
    '{"type":"stroke","color":"ink","points":[[0,2]]}',
    '{"type":"stroke","color":"ink","points":[[NaN,0]]}',
    '{"type":"stroke","color":"ink","points":[]}',
    '{"type":"plugin","kind":"page","url":"javascript:alert(1)"}',
    '{"type":"plugin","kind":"page","url":"https://user:password@example.com/"}',
    '{"type":"plugin","kind":"page","url":"https://example.com/\\n"}',
    '{"type":"plugin","kind":"page","url":"file:///etc/passwd"}',
    '{"type":"state","media":{"camera":"<b>"}}',
    "[" * 60_000,
    "x" * (MAX_MESSAGE + 1),
]


async def test_nonsense_should_end_only_who_says_it(address: str) -> None:
    async with joined(address, "Ada") as (ada, _):
        for text in NONSENSE:
            async with joined(address, "Eve") as (eve, eve_is):
                await eve.connection.send(text)
                assert await eve.is_put_out(), text[:100]
            assert (await ada.hear("left"))["id"] == eve_is["id"]
        await ada.say(type="plugin", kind="whiteboard")
        assert (await ada.hear("plugin"))["kind"] == "whiteboard"


BAD_JOINS: list[dict[str, Any]] = [
    {"type": "beat"},
    {"type": "join", "name": ""},
    {"type": "join", "name": "x" * 41},
    {"type": "join", "name": "a\u202eb"},
    {"type": "join", "name": "Eve", "recorder": True},
    {"type": "join", "name": "Eve", "token": "meet_e30.AAAA"},
]


async def test_bad_join_should_be_refused(address: str) -> None:
    for message in BAD_JOINS:
        async with connected(address) as eve:
            await eve.say(**message)
            assert (await eve.hear())["type"] == "refused", message
            assert await eve.is_put_out()


async def test_binary_should_be_refused(address: str) -> None:
    async with joined(address) as (eve, _):
        await eve.connection.send(b"\x00")
        assert await eve.is_put_out()


async def test_flood_should_end_who_sends_it(address: str) -> None:
    async with joined(address, "Ada") as (ada, _):
        async with joined(address, "Eve") as (eve, eve_is):
            with suppress(ConnectionClosed):
                for _ in range(5_000):
                    await eve.say(type="beat")
            assert await eve.is_put_out()
        assert (await ada.hear("left"))["id"] == eve_is["id"]


async def test_page_of_another_origin_should_not_get_in(address: str) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1"):
        with pytest.raises(InvalidStatus) as caught:
            async with connected(address, origin=origin):
                pass
        assert caught.value.response.status_code == 403


async def test_silent_member_should_be_away_and_then_gone(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "SILENCE_SECONDS", 3.0)
    monkeypatch.setattr(meeting, "BEAT_SECONDS", 0.5)
    monkeypatch.setattr(rooms, "AWAY_SECONDS", 1.0)
    async with joined(address, "Ada") as (ada, _), joined(address, "Gone") as (_, gone_is):
        # The connection stays open, like a broken one, and carries no more messages.
        assert (await ada.hear("away"))["id"] == gone_is["id"]
        assert (await ada.hear("left"))["id"] == gone_is["id"]


async def break_off(client: Client) -> None:
    """Break somebody's connection without a goodbye."""
    client.connection.transport.abort()
    await client.connection.wait_closed()


async def test_member_that_reconnects_should_stay_the_same(address: str) -> None:
    async with joined(address, "Ada") as (ada, _), connected(address) as bob:
        await bob.say(type="join", name="Bob", media=MEDIA)
        welcome = await bob.hear("welcome")
        await ada.hear("joined")
        await break_off(bob)
        assert await ada.hear() == {"type": "away", "id": welcome["id"]}
        async with joined(address, "Late") as (_, seen):
            # Audio and video of somebody who is away may still flow.
            assert {member["name"] for member in seen["members"]} == {"Ada", "Bob"}
        async with joined(address, "Bob", resume=welcome["resume"]) as (_, again):
            assert again["id"] == welcome["id"]
            assert [member["name"] for member in again["members"]] == ["Ada"]
            heard = [await ada.hear() for _ in range(3)]
            assert [message["type"] for message in heard] == ["joined", "left", "joined"]
            assert heard[-1]["member"]["id"] == welcome["id"]


async def test_reconnect_should_replace_a_connection_that_still_looks_alive(address: str) -> None:
    async with (
        joined(address, "Ada") as (ada, _),
        joined(address, "Bob") as (old, welcome),
        joined(address, "Bob", resume=welcome["resume"]) as (new, again),
    ):
        assert again["id"] == welcome["id"]
        assert await old.is_put_out()
        await new.say(type="plugin", kind="whiteboard")
        assert (await ada.hear("plugin"))["kind"] == "whiteboard"
        await ada.say(type="clear")
        assert (await new.hear("clear"))["type"] == "clear"


async def test_resume_token_should_be_good_for_its_meeting_only(address: str) -> None:
    async with joined(address, "Ada", "one") as (_, ada_is):
        forged = f"{ada_is['id']}.{'A' * 43}"
        for resume in (ada_is["resume"], forged, "", "nonsense", "ü.ü"):
            async with joined(address, "Eve", "other", resume=resume) as (_, eve_is):
                assert eve_is["id"] != ada_is["id"]
        async with joined(address, "Eve", "one", resume=forged) as (_, eve_is):
            assert eve_is["id"] != ada_is["id"]


async def test_member_that_reconnects_after_the_end_should_hear_of_it(address: str) -> None:
    token = await host_token(address)
    async with joined(address, "Host", token=token) as (host, _), connected(address) as bob:
        await bob.say(type="join", name="Bob", media=MEDIA)
        welcome = await bob.hear("welcome")
        await break_off(bob)
        await host.hear("away")
        await host.say(type="end")
        assert await host.is_put_out()
        async with connected(address) as bob_again:
            await bob_again.say(type="join", name="Bob", media=MEDIA, resume=welcome["resume"])
            assert (await bob_again.hear())["type"] == "ended"
        async with joined(address, "Next") as (_, seen):
            assert seen["members"] == []


async def test_only_a_host_should_end_the_meeting(address: str) -> None:
    token = await host_token(address)
    async with joined(address, "Guest") as (guest, _):
        await guest.say(type="end")
        async with joined(address, "Host", token=token) as (host, welcome):
            assert welcome["host"] is True
            await host.say(type="end")
            assert (await guest.hear("ended"))["type"] == "ended"
            assert await guest.is_put_out()
            assert await host.is_put_out()


async def test_token_should_be_good_for_its_meeting_and_role_only(address: str, farm: Farm) -> None:
    other = await host_token(address, "another")
    recorder = await recorder_token(address, farm)
    for token in (other, recorder):
        async with connected(address) as eve:
            await eve.say(type="join", name="Eve", token=token)
            assert (await eve.hear())["type"] == "refused"
    async with httpx.AsyncClient(base_url=address) as client:
        for token in (await host_token(address), f"{recorder}x", TOKEN_PREFIX, "acme-key"):
            answer = await client.post(
                "/meet-rooms/recorder/room", headers={"Authorization": f"Bearer {token}"}
            )
            assert answer.status_code == 401
        answer = await client.post(
            "/meet-rooms/recorder/another", headers={"Authorization": f"Bearer {recorder}"}
        )
        assert answer.status_code == 401
        assert (await client.post("/meet-rooms/recorder/room")).status_code == 401
        answer = await client.post("/meet-rooms/messages", headers={"Authorization": "Bearer guess"})
        assert answer.status_code == 404


async def test_recorder_should_not_listen_when_its_recording_is_over(address: str, farm: Farm) -> None:
    token = await recorder_token(address, farm)
    async with httpx.AsyncClient(base_url=address, auth=ACME) as client:
        active = (await client.get("/v2/recordings/active-recording/room")).json()["data"]
        await client.put(f"/v2/recordings/{active['id']}", json={"action": "stop"})
        headers = {"Authorization": f"Bearer {token}"}
        answer = await client.post("/meet-rooms/recorder/room", headers=headers, auth=httpx.Auth())
    assert answer.status_code == 401


async def test_recorder_should_be_in_no_list_but_everybody_should_know_of_the_recording(
    address: str, farm: Farm
) -> None:
    token = await recorder_token(address, farm)
    async with (
        httpx.AsyncClient(base_url=address, timeout=SECONDS) as client,
        joined(address, "Ada") as (ada, ada_is),
    ):
        headers = {"Authorization": f"Bearer {token}"}
        async with client.stream("POST", "/meet-rooms/recorder/room", headers=headers) as stream:
            events = (
                json.loads(line.removeprefix("data: "))
                async for line in stream.aiter_lines()
                if line.startswith("data: ")
            )
            secret = (await anext(events))["secret"]
            welcome = await anext(events)
            assert [member["name"] for member in welcome["members"]] == ["Ada"]
            listener = await ada.hear("listener")
            assert listener == {"type": "listener", "id": welcome["id"]}
            assert (await ada.hear("recording"))["on"] is True
            async with joined(address, "Bob") as (_, seen):
                assert [member["name"] for member in seen["members"]] == ["Ada"]
                assert seen["recording"] == {"on": True, "paused": False}
            # It may answer connections, and may not draw or end.
            sent = {"Authorization": f"Bearer {secret}"}
            signal = {
                "type": "signal",
                "to": ada_is["id"],
                "description": {"type": "answer", "sdp": "v=0"},
            }
            for message in ({"type": "clear"}, {"type": "end"}, signal):
                answer = await client.post("/meet-rooms/messages", headers=sent, json=message)
                assert answer.status_code == 200
            assert (await ada.hear("signal"))["from"] == welcome["id"]
            large = await client.post("/meet-rooms/messages", headers=sent, content=b"x" * 70_000)
            assert large.status_code == 413
        assert (await ada.hear("away"))["id"] == welcome["id"]
        answer = await client.post("/meet-rooms/messages", headers=sent, json=signal)
        assert answer.status_code == 404
        # Its stream may be back in a moment, until its recording is over.
        async with client.stream(
            "POST", "/meet-rooms/recorder/room", headers=headers, json={"resume": welcome["resume"]}
        ):
            assert (await ada.hear("listener"))["id"] == welcome["id"]
        await ada.hear("away")
        active = (await client.get("/v2/recordings/active-recording/room", auth=ACME)).json()["data"]
        await client.put(f"/v2/recordings/{active['id']}", json={"action": "stop"}, auth=ACME)
        assert (await ada.hear("recording"))["on"] is False


async def test_everybody_should_see_that_the_recording_is_paused(address: str, farm: Farm) -> None:
    token = await recorder_token(address, farm)
    async with (
        httpx.AsyncClient(base_url=address, timeout=SECONDS) as client,
        joined(address, "Ada") as (ada, _),
        client.stream("POST", "/meet-rooms/recorder/room", headers={"Authorization": f"Bearer {token}"}),
    ):
        assert await ada.hear("recording") == {"type": "recording", "on": True, "paused": False}
        active = (await client.get("/v2/recordings/active-recording/room", auth=ACME)).json()["data"]
        for status, paused in ((Status.RECORDING, None), (Status.PAUSED, True), (Status.RECORDING, False)):
            farm.records.change_state(active["id"], status)
            if paused is not None:
                assert (await ada.hear("recording"))["paused"] is paused
            if paused:
                async with joined(address, "Bob") as (_, seen):
                    assert seen["recording"] == {"on": True, "paused": True}


async def test_host_should_see_the_active_recording_without_a_404(address: str) -> None:
    token = await host_token(address)
    async with httpx.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {token}"}) as host:
        none = await host.get("/meet-rooms/active-recording/room")
        assert (none.status_code, none.json()["data"]) == (200, {"recording": None})
        started = (await host.post("/v2/recordings", json={"meeting_id": "room"})).json()["data"]
        shown = (await host.get("/meet-rooms/active-recording/room")).json()["data"]["recording"]
        assert (shown["id"], shown["status"]) == (started["id"], "INVOKED")
        assert set(shown) == {"id", "status", "started_time"}
        assert (await host.get("/meet-rooms/active-recording/another")).status_code == 401
        assert (await host.get("/v2/recordings/active-recording/room")).status_code == 200
    async with httpx.AsyncClient(base_url=address) as guest:
        for headers in ({}, {"Authorization": "Bearer guess"}):
            refused = await guest.get("/meet-rooms/active-recording/room", headers=headers)
            assert refused.status_code == 401


async def test_host_should_record_the_own_meeting_and_nothing_else(address: str, records: Records) -> None:
    token = await host_token(address)
    async with (
        httpx.AsyncClient(base_url=address, auth=OTHER) as other,
        httpx.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {token}"}) as host,
        httpx.AsyncClient(base_url=address, auth=ACME) as organization,
    ):
        started = await host.post("/v2/recordings", json={"meeting_id": "room"})
        assert started.status_code == 200, started.text
        recording_id = started.json()["data"]["id"]
        assert records.get("acme", recording_id).meeting_id == "room"
        assert (await host.get("/v2/recordings/active-recording/room")).status_code == 200
        assert (await host.get(f"/v2/recordings/{recording_id}")).status_code == 200
        assert (await other.get(f"/v2/recordings/{recording_id}")).status_code == 404

        foreign = (await organization.post("/v2/recordings", json={"meeting_id": "another"})).json()
        path = f"/v2/recordings/{foreign['data']['id']}"
        refused = [
            await host.get("/v2/recordings/active-recording/another"),
            await host.get(path),
            await host.put(path, json={"action": "stop"}),
        ]
        assert [answer.status_code for answer in refused] == [404] * 3
        for body in (
            {"meeting_id": "another"},
            {"meeting_id": "room", "url": "https://example.com/"},
            {"meeting_id": "room", "allow_multiple_recordings": True},
        ):
            assert (await host.post("/v2/recordings", json=body)).status_code == 422
        for answer in (
            await host.get("/v2/recordings"),
            await host.delete(path),
            await host.get("/v2/webhooks"),
            await host.put("/v2/recording_config", json={}),
            await host.post("/v2/meetings/room/host_link"),
        ):
            assert answer.status_code == 401

        stopped = await host.put(f"/v2/recordings/{recording_id}", json={"action": "stop"})
        assert stopped.json()["data"]["status"] == "ERRORED"


async def test_outbox_should_end_rather_than_grow() -> None:
    outbox = Outbox()
    for _ in range(100):
        outbox.put({"text": "x" * 100_000})
    assert await outbox.get() is None


def test_allowance_should_come_back_with_time() -> None:
    allowance = Allowance(burst=2, a_second=1e6)
    assert [allowance.take(1), allowance.take(1)] == [True, True]
    assert Allowance(burst=2, a_second=0.001).take(3) is False
