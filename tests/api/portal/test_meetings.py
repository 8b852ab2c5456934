"""The pages of built-in meetings."""

import re
from html import unescape
from uuid import uuid4

import pytest
from starlette.applications import Starlette

from recording_farm.api.meeting.rooms import Member
from recording_farm.api.portal.meetings import is_loopback
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.records import Records
from testkit.api.portal import HOSTILE, Visit
from testkit.recordings import new_recording


async def test_new_meeting_should_have_an_id_of_its_own_and_both_links(acme: Visit) -> None:
    places = [(await acme.send("/meetings")).headers["location"] for _ in range(2)]
    assert places[0] != places[1]
    meeting_id = places[0].removeprefix("/meetings/")
    page = unescape(await acme.see(places[0]))
    guest, host = re.findall(r'readonly value="([^"]+)"', page)
    assert guest.endswith(f"/meet/{meeting_id}")
    assert host.startswith(f"{guest}#host=meet_")
    assert re.search(r'works until <time datetime="', page)


async def test_existing_meeting_should_be_found_by_its_id(acme: Visit) -> None:
    found = await acme.client.get("/meetings", params={"id": " team/weekly "})
    assert found.headers["location"] == "/meetings/team%2Fweekly"
    assert "/meet/team%2Fweekly#host=" in await acme.see(found.headers["location"])


@pytest.mark.parametrize("meeting_id", ["x" * 129, "%00"])
async def test_id_that_no_meeting_can_have_should_be_an_error(acme: Visit, meeting_id: str) -> None:
    assert "meeting_id" in await acme.see(f"/meetings/{meeting_id}", 422)


async def test_meeting_should_show_its_people_and_its_recording(
    acme: Visit, other: Visit, app: Starlette, records: Records
) -> None:
    assert "Nobody is in the meeting." in await acme.see("/meetings/weekly")
    app.state.context.rooms.enter("weekly", Member("1", "127.0.0.1", "Ada"), "resume")
    recorder = Member("2", "127.0.0.1", recording=("acme", uuid4()))
    app.state.context.rooms.enter("weekly", recorder, "resume")
    assert "1 person is in the meeting." in await acme.see("/meetings/weekly")
    recording = records.add(new_recording(meeting_id="weekly", status=Status.RECORDING))
    assert f'href="/recordings/{recording.id}"' in await acme.see("/meetings/weekly")
    assert str(recording.id) not in await other.see("/meetings/weekly")


async def test_meeting_should_be_recorded_from_its_page(acme: Visit) -> None:
    page = await acme.see("/meetings/weekly")
    once = re.search(r'name="once" value="([^"]+)"', page)
    assert once
    started = await acme.send("/start", meeting_id="weekly", once=once[1])
    assert started.headers["location"].startswith("/recordings/")


async def test_demo_meeting_should_have_no_host_link(acme: Visit) -> None:
    page = await acme.see("/meetings/demo")
    assert "#host=" not in page
    assert "synthetic" in page


async def test_id_of_a_meeting_should_stay_text(acme: Visit) -> None:
    found = await acme.client.get("/meetings", params={"id": HOSTILE})
    page = await acme.see(found.headers["location"])
    assert "<script>alert" not in page
    assert "<img src=x" not in page


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("10.0.0.1", False), ("farm.example", False)],
)
def test_links_of_this_machine_should_be_known(host: str, *, loopback: bool) -> None:
    assert is_loopback(host) == loopback
