"""The page of a recording."""

import re
from pathlib import Path
from uuid import uuid4

import pytest

from recording_farm.api.app import create_app
from recording_farm.farm.clock import now
from recording_farm.farm.jobs.settle import settle
from recording_farm.farm.queues.transfers import uploads_queue
from recording_farm.farm.recording.copies import Copy, CopyReports
from recording_farm.farm.recording.model import FileKind, FinishedFile, Status, TimelineEntry
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.transfers import STORE, Transfer, TransferState
from testkit.api.portal import Visit, visit_of
from testkit.farm import Farm
from testkit.receivers import receiver
from testkit.recordings import new_recording
from testkit.storage.targets import S3
from testkit.webhooks import deliver


async def test_recording_of_another_organization_should_not_be_there(other: Visit, records: Records) -> None:
    recording = records.add(new_recording(meeting_id="a-secret-meeting"))
    for path in ("", "/live.jpg"):
        response = await other.client.get(f"/recordings/{recording.id}{path}")
        assert (response.status_code, response.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert (await other.send(f"/recordings/{recording.id}/command", action="stop")).status_code == 404
    assert records.get("acme", recording.id).status is Status.INVOKED
    assert recording.meeting_id not in await other.see("/")


async def test_unknown_recording_should_be_a_page_that_says_so(acme: Visit) -> None:
    for recording_id in (uuid4(), "x", "%2e%2e", "a%3Fb%23c"):
        page = await acme.see(f"/recordings/{recording_id}", 404)
        assert "Not found" in page


async def test_recording_should_be_stopped_from_its_page(acme: Visit, records: Records) -> None:
    recording = records.add(new_recording())
    assert 'value="stop"' in await acme.see(f"/recordings/{recording.id}")
    response = await acme.send(f"/recordings/{recording.id}/command", action="stop")
    assert (response.status_code, response.headers["location"]) == (
        303,
        f"/recordings/{recording.id}?done=cancel",
    )
    assert records.get("acme", recording.id).status is Status.ERRORED
    page = await acme.send(f"/recordings/{recording.id}/command", action="pause")
    assert page.status_code == 409
    assert "cannot be paused" in page.text
    assert (await acme.send(f"/recordings/{recording.id}/delete")).headers["location"] == "/?done=deleted"
    await acme.see(f"/recordings/{recording.id}", 404)


async def test_uploads_should_be_tried_again_and_made_elsewhere_from_the_page(
    acme: Visit, farm: Farm, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    recording = farm.stored(new_recording(), film, S3)
    farm.records.set_transfer(recording.id, Transfer(target="s3", state=TransferState.GIVEN_UP, attempts=9))
    settle(recording.id, farm.settings, farm.redis)
    path, uploads = f"/recordings/{recording.id}", uploads_queue(farm.redis, None)
    assert 'id="retry"' in await acme.see(path)
    response = await acme.send(f"{path}/upload")
    assert (response.status_code, response.headers["location"]) == (303, f"{path}?done=upload")
    assert [tuple(job.args) for job in uploads.jobs] == [(str(recording.id), "s3")]
    assert farm.records.get(None, recording.id).transfers[1].state is TransferState.WAITING

    preset = {"host": "8.8.8.8", "username": "me", "password": "s3cret"}
    await acme.send("/settings/storage", type="sftp", name="mine", **preset)
    assert "<option>mine</option>" in await acme.see(path)
    assert (await acme.send(f"{path}/upload", preset="mine")).status_code == 303
    assert {tuple(job.args) for job in uploads.jobs} == {(str(recording.id), name) for name in ("s3", "sftp")}
    refused = await acme.send(f"{path}/upload", preset="gone")
    assert refused.status_code == 422
    assert f'<body data-address="{path}"' in refused.text


async def test_page_should_show_how_far_each_copy_is_while_it_is_made(acme: Visit, farm: Farm) -> None:
    recording = farm.add(status=Status.RECORDING, node="n", transfers=(Transfer(target="s3"),))
    copy = Copy(uploaded_bytes=24 << 20, behind_seconds=21.4, in_parts=True)
    CopyReports(farm.redis).write("n", {str(recording.id): {"s3": copy}})
    assert "24.0 MiB uploaded, 21 s behind" in await acme.see(f"/recordings/{recording.id}")
    farm.records.change_state(recording.id, Status.UPLOADING, stopped_time=now())
    page = await acme.see(f"/recordings/{recording.id}")
    assert "24.0 MiB uploaded<" in page
    # It goes on growing, and no event tells of it.
    assert 'id="transfers" data-live data-poll="5"' in page


async def test_webhook_should_be_sent_again_from_the_page_of_the_recording(farm: Farm) -> None:
    farm = farm.with_settings(allow_private_addresses="all")
    app = create_app(farm.settings)
    async with app.router.lifespan_context(app), visit_of(app, "acme", "acme-key") as visit:
        with receiver() as hook:
            await visit.send("/settings/webhooks", name="mine", url=hook.url)
            path = (await visit.send("/start", meeting_id="m")).headers["location"]
            await deliver(farm)
            fields = dict(re.findall(r'name="(webhook_id|log_id)" value="([^"]+)"', await visit.see(path)))
            response = await visit.send(f"{path}/replay", **fields)
            assert (response.status_code, response.headers["location"]) == (303, f"{path}?done=replay")
            await deliver(farm)
            first, second = hook.received
            assert first.body == second.body


async def test_links_to_files_should_lead_through_the_name_that_the_browser_has(
    acme: Visit, farm: Farm
) -> None:
    files = tuple(
        FinishedFile(kind=kind, name=name, size=1, sha256="0" * 64)
        for kind, name in ((FileKind.VIDEO, "film.mp4"), (FileKind.AUDIO, "film.m4a"))
    )
    ended = {"status": Status.UPLOADED, "files": files, "file_size": 1, "recording_duration": 1}
    transfers = (Transfer(target=STORE, state=TransferState.DONE),)
    recording = farm.add(transfers=transfers, **ended)
    page = await acme.see(f"/recordings/{recording.id}")
    links = re.findall(r'<a id="download[^"]*" class="button" href="([^"]+)"', page)
    assert len(links) == 2
    assert [link for link in links if not link.startswith("/")] == []
    assert farm.settings.base_url not in "".join(links)


async def test_timeline_should_lead_to_places_in_the_file(acme: Visit, records: Records) -> None:
    recording = records.add(new_recording())
    began = now()
    records.change_state(recording.id, Status.RECORDING, started_time=began)
    records.note(recording.id, TimelineEntry(event="take_began", take=0, time=began))
    records.note(recording.id, TimelineEntry(event="fault", fault="the page broke", time=now()))
    page = await acme.see(f"/recordings/{recording.id}")
    assert 'class="take"' in page
    assert "the page broke" in page
    assert "/live.jpg" in page
    picture = await acme.client.get(f"/recordings/{recording.id}/live.jpg")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/svg+xml")


@pytest.mark.parametrize("kind", ["recordings", "settings/webhooks"])
@pytest.mark.parametrize("dots", ["%2e", "%2e%2e"])
async def test_dots_should_be_an_id_that_nothing_has(acme: Visit, kind: str, dots: str) -> None:
    assert re.search(r"(?i)no (recording|webhook) \.", await acme.see(f"/{kind}/{dots}", 404))
