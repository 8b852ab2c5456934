"""The list of recordings."""

from html import unescape

import pytest

from recording_farm.api.portal.page import length
from recording_farm.api.portal.recordings import api_query, length_of
from recording_farm.farm.clock import now
from recording_farm.farm.recording.model import Failure, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.transfers import STORE, Transfer, TransferError, TransferState
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
    assert "weekly-07" in await acme.see("/?search=y-07")
    assert "weekly-08" not in await acme.see("/?search=y-07")
    assert "No recordings match this filter" in await acme.see("/?state=UPLOADED")
    assert "weekly-29" in await acme.see(f"/?state=active&from={now():%Y-%m-%d}&to={now():%Y-%m-%d}")
    assert "No recordings match this filter" in await acme.see("/?to=2020-01-31")
    # What was asked for stays in the links to other pages and in the form.
    assert "?state=active&page=2" in unescape(await acme.see("/?state=active"))
    assert "start_time" in await acme.see("/?from=yesterday", 422)


async def test_page_behind_the_last_should_lead_to_the_first(acme: Visit, farm: Farm) -> None:
    farm.add()
    page = await acme.see("/?state=active&page=99")
    assert "Page 99 is empty" in page
    assert 'href="?state=active"' in page
    assert "Newer" not in page
    assert "Older" not in page


@pytest.mark.parametrize(
    ("zone", "start", "end"),
    [
        ("", "2026-01-15T00:00:00.000Z", "2026-01-15T23:59:59.999Z"),
        ("Europe/Berlin", "2026-01-14T23:00:00.000Z", "2026-01-15T22:59:59.999Z"),
        ("America/Los_Angeles", "2026-01-15T08:00:00.000Z", "2026-01-16T07:59:59.999Z"),
        ("../../etc/passwd", "2026-01-15T00:00:00.000Z", "2026-01-15T23:59:59.999Z"),
    ],
)
def test_days_of_the_filter_should_be_those_of_the_browser(zone: str, start: str, end: str) -> None:
    query = api_query({"from": "2026-01-15", "to": "2026-01-15", "zone": zone})
    assert (query["start_time"], query["end_time"]) == (start, end)


async def test_list_should_say_what_is_wrong_with_a_recording(acme: Visit, farm: Farm) -> None:
    quality = {"frames_captured": 310, "frames_lost": 690}
    fault = TransferError(code="no_such_bucket", message="the bucket b does not exist")
    uploads = (Transfer(target="aws", state=TransferState.WAITING, attempts=3, error=fault),)
    lossy = farm.add(status=Status.UPLOADED, quality=quality, transfers=uploads)
    failed = farm.add(
        meeting_id="x", status=Status.ERRORED, error=Failure(code="recording_failed", message="it broke")
    )
    page = await acme.see("/")
    assert "69 % of the frames are lost." in page
    assert "Upload to aws is retried: the bucket b does not exist." in page
    assert "It broke." in page
    assert "recording_failed" not in page
    assert str(lossy.id) in page
    assert str(failed.id) in page


async def test_recording_that_never_started_should_be_cancelled_and_not_look_like_a_failure(
    acme: Visit, farm: Farm
) -> None:
    recording = farm.add()
    await acme.send(f"/recordings/{recording.id}/command", action="stop")
    for path in ("/", f"/recordings/{recording.id}"):
        page = await acme.see(path)
        assert '<span class="state" data-state="CANCELLED">cancelled</span>' in page
        assert "notice bad" not in page


async def test_expired_recordings_should_be_marked_and_found(acme: Visit, farm: Farm) -> None:
    done = (Transfer(target=STORE, state=TransferState.DONE),)
    kept = farm.add(status=Status.UPLOADED, meeting_id="kept", transfers=done)
    gone = farm.add(status=Status.UPLOADED, meeting_id="gone", transfers=done)
    farm.records.expire(gone)
    assert 'data-state="EXPIRED"' in await acme.see("/")
    expired, uploaded = await acme.see("/?state=EXPIRED"), await acme.see("/?state=UPLOADED")
    assert [str(kept.id) in expired, str(gone.id) in expired] == [False, True]
    assert [str(kept.id) in uploaded, str(gone.id) in uploaded] == [True, False]
    assert "The files were deleted after 7 days (retention)" in await acme.see(f"/recordings/{gone.id}")


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


def test_length_should_count_whole_seconds_like_the_player() -> None:
    takes = [{"take": 1, "duration_ns": 40_000_000_000}, {"take": 2, "duration_ns": 2_900_000_000}]
    recording = {"status": "UPLOADED", "timeline": [], "recording_duration": 43}
    assert length(length_of({**recording, "takes": takes}, now())["seconds"]) == "0:42"
    assert length(length_of({**recording, "takes": []}, now())["seconds"]) == "0:43"
