"""The list of recordings."""

from html import unescape

from recording_farm.farm.clock import now
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.records import Records
from testkit.api.portal import Visit
from testkit.farm import Farm
from testkit.recordings import new_recording


async def test_list_should_be_narrowed_and_paged(acme: Visit, farm: Farm) -> None:
    for number in range(30):
        farm.add(meeting_id=f"weekly-{number:02}")
    first = await acme.see("/")
    assert "1–25 of 30" in first
    assert "weekly-29" in first
    assert "weekly-04" not in first
    assert "weekly-04" in await acme.see("/?page=2")
    assert "weekly-07" in await acme.see("/?meeting=y-07")
    assert "weekly-08" not in await acme.see("/?meeting=y-07")
    assert "Nothing fits" in await acme.see("/?state=UPLOADED")
    assert "weekly-29" in await acme.see(f"/?state=active&from={now():%Y-%m-%d}&to={now():%Y-%m-%d}")
    assert "Nothing fits" in await acme.see("/?to=2020-01-31")
    # What was asked for stays in the links to other pages and in the form.
    assert "?state=active&page=2" in unescape(await acme.see("/?state=active"))
    assert "start_time" in await acme.see("/?from=yesterday", 422)


async def test_list_and_recording_should_tell_the_slot(acme: Visit, records: Records) -> None:
    recording = records.claim(records.add(new_recording()), "node-1", slot=7)
    page = f"/recordings/{recording.id}"
    for path in ("/", page):
        assert 'node-1 <span class="quiet">slot 7</span>' in await acme.see(path)
    assert (await acme.client.get(f"/v2{page}")).json()["data"]["slot"] == 7
    records.change_state(recording.id, Status.ERRORED)
    for path in ("/", page):
        text = await acme.see(path)
        assert "node-1" in text
        assert "slot 7" not in text
