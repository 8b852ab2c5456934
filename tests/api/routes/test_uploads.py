"""Storage in requests: what is taken, shown, kept, and uploaded again."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.jobs.settle import settle
from recording_farm.farm.queues.transfers import uploads_queue
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.targets import open_target
from recording_farm.farm.recording.transfers import (
    MAX_TRANSFERS,
    STORE,
    Transfer,
    TransferError,
    TransferState,
)
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.store import Store
from recording_farm.farm.storage.targets import S3Target
from testkit.farm import Farm
from testkit.recordings import new_recording
from testkit.storage.targets import S3

SFTP = {
    "type": "sftp", "host": "8.8.8.8", "port": 22, "username": "me", "auth_method": "PASSWORD",
    "password": "s3cret",
}  # fmt: skip


async def start(client: httpx.AsyncClient, **wanted: Any) -> Any:
    response = await client.post("/v2/recordings", json={"meeting_id": "demo"} | wanted)
    assert response.status_code == 200, response.text
    assert "s3cret" not in response.text
    return response.json()["data"]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    file = tmp_path / "film.mp4"
    file.write_bytes(b"film")
    return file


@pytest.fixture
def given_up(farm: Farm, film: Path) -> Recording:
    """A recording whose files are in the store, and whose upload was given up."""
    recording = farm.stored(new_recording(), film, S3)
    error = TransferError(code="no_bucket", message="there is no bucket films")
    farm.records.set_transfer(
        recording.id, Transfer(target="s3", state=TransferState.GIVEN_UP, attempts=9, error=error)
    )
    settle(recording.id, farm.settings, farm.redis)
    return farm.records.get(None, recording.id)


async def test_storage_should_be_shown_without_its_keys(client: httpx.AsyncClient) -> None:
    data = await start(client, storage_config=S3)
    assert data["storage_config"] == {
        name: value for name, value in S3.items() if name not in {"access_key", "secret"}
    }
    assert data["transfers"] == [
        {"target": name, "state": "WAITING", "attempts": 0, "failing": False}
        | dict.fromkeys(("next_try", "error", "location", "note"))
        | dict.fromkeys(("in_parts", "uploaded_bytes", "behind_seconds"))
        for name in ("store", "s3")
    ]


async def test_farm_should_keep_no_copy_when_told_so(client: httpx.AsyncClient) -> None:
    data = await start(client, storage_config=S3, dyte_bucket_config={"enabled": False})
    assert [transfer["target"] for transfer in data["transfers"]] == ["s3"]


@pytest.mark.parametrize(
    ("wanted", "suffix", "video", "audio"),
    [
        ({}, ".mp4", True, None),
        ({"audio_config": {}}, ".mp4", True, {"codec": "AAC", "channel": "stereo"}),
        ({"audio_config": {"export_file": False}}, ".mp4", True, None),
        ({"video_config": {"export_file": False}}, ".m4a", False, {"codec": "AAC", "channel": "stereo"}),
        (
            {"video_config": {"export_file": False}, "audio_config": {"codec": "MP3", "channel": "mono"}},
            *(".mp3", False, {"codec": "MP3", "channel": "mono"}),
        ),
        (
            {"video_config": {"codec": "VP8"}, "audio_config": {"codec": "MP3"}},
            *(".webm", True, {"codec": "MP3", "channel": "stereo"}),
        ),
    ],
)
async def test_sound_should_be_exported_as_wanted(
    client: httpx.AsyncClient, wanted: Any, suffix: str, audio: Any, *, video: bool
) -> None:
    data = await start(client, **wanted)
    assert Path(data["output_file_name"]).suffix == suffix
    assert (data["video_config"] is not None, data["audio_config"]) == (video, audio)


async def test_idempotency_key_should_stand_for_the_storage_too(client: httpx.AsyncClient) -> None:
    async def post(config: Any) -> httpx.Response:
        body = {"meeting_id": "demo", "storage_config": config}
        return await client.post("/v2/recordings", json=body, headers={"Idempotency-Key": "k"})

    first, again, other = await post(S3), await post(S3), await post(S3 | {"secret": "another"})
    assert first.json()["data"]["id"] == again.json()["data"]["id"]
    assert other.status_code == 422


async def test_failed_upload_should_be_tried_again_on_demand(
    client: httpx.AsyncClient, farm: Farm, given_up: Recording
) -> None:
    shown = (await client.get(f"/v2/recordings/{given_up.id}")).json()["data"]
    assert shown["status"] == "UPLOADED"
    assert shown["download_url"] is not None
    assert shown["transfers"][1]["error"] == {"code": "no_bucket", "message": "there is no bucket films"}
    response = await client.post(f"/v2/recordings/{given_up.id}/upload", json={})
    assert response.status_code == 200
    assert [transfer["state"] for transfer in response.json()["data"]["transfers"]] == ["DONE", "WAITING"]
    assert [tuple(job.args) for job in uploads_queue(farm.redis, None).jobs] == [(str(given_up.id), "s3")]
    assert farm.records.get(None, given_up.id).status is Status.UPLOADED


async def test_upload_elsewhere_should_be_a_transfer_of_its_own(
    client: httpx.AsyncClient, farm: Farm, given_up: Recording
) -> None:
    for config in (S3 | {"path": "again"}, SFTP):
        response = await client.post(f"/v2/recordings/{given_up.id}/upload", json={"storage_config": config})
        assert response.status_code == 200
        assert "s3cret" not in response.text
    names = [transfer["target"] for transfer in response.json()["data"]["transfers"]]
    assert names == ["store", "s3", "s3-2", "sftp"]
    assert farm.records.sealed_target(given_up.id, "s3-2") is not None
    assert {job.args[1] for job in uploads_queue(farm.redis, None).jobs} == {"s3-2", "sftp"}


async def test_upload_to_the_same_place_should_be_tried_again_with_the_new_keys(
    client: httpx.AsyncClient, farm: Farm, given_up: Recording
) -> None:
    async def renew(recording: Recording) -> Any:
        new = S3 | {"secret": "new s3cret", "sessionToken": "s3cret-token"}
        response = await client.post(f"/v2/recordings/{recording.id}/upload", json={"storage_config": new})
        assert "s3cret" not in response.text
        sealed = farm.records.sealed_target(recording.id, "s3")
        assert sealed is not None
        target = open_target(Sealer(load_secret_key(farm.settings)), recording.id, "s3", sealed)
        assert isinstance(target, S3Target)
        assert target.session_token is not None
        kept = target.secret.get_secret_value(), target.session_token.get_secret_value()
        assert kept == ("new s3cret", "s3cret-token")
        return [(transfer["target"], transfer["state"]) for transfer in response.json()["data"]["transfers"]]

    assert await renew(given_up) == [("store", "DONE"), ("s3", "WAITING")]
    assert [tuple(job.args) for job in uploads_queue(farm.redis, None).jobs] == [(str(given_up.id), "s3")]
    # While it is made, its live output in that place needs them.
    running = await start(client, storage_config=S3)
    assert await renew(farm.records.get(None, running["id"])) == [("store", "WAITING"), ("s3", "WAITING")]
    elsewhere = S3 | {"bucket": "other"}
    response = await client.post(f"/v2/recordings/{running['id']}/upload", json={"storage_config": elsewhere})
    assert response.status_code == 409
    assert "you can only give new keys" in response.json()["error"]["message"]


async def test_uploads_asked_for_at_once_should_each_get_a_name(
    client: httpx.AsyncClient, records: Records, given_up: Recording
) -> None:
    path = f"/v2/recordings/{given_up.id}/upload"
    posts = (client.post(path, json={"storage_config": S3 | {"path": f"{number}"}}) for number in range(10))
    assert {response.status_code for response in await asyncio.gather(*posts)} == {200}
    names = {transfer.target for transfer in records.get(None, given_up.id).transfers}
    assert names == {STORE, "s3", *(f"s3-{number}" for number in range(2, 12))}


async def test_recording_should_not_be_uploaded_to_any_number_of_places(
    client: httpx.AsyncClient, records: Records, given_up: Recording
) -> None:
    for number in range(MAX_TRANSFERS - 2):
        records.set_transfer(given_up.id, Transfer(target=f"sftp-{number}"))
    config = S3 | {"path": "another"}
    response = await client.post(f"/v2/recordings/{given_up.id}/upload", json={"storage_config": config})
    assert response.status_code == 409
    assert len(records.get(None, given_up.id).transfers) == MAX_TRANSFERS


async def test_upload_that_cannot_be_made_should_say_why(
    client: httpx.AsyncClient, records: Records, given_up: Recording
) -> None:
    async def refusal(recording: Recording, body: Any) -> tuple[int, str]:
        response = await client.post(f"/v2/recordings/{recording.id}/upload", json=body)
        return response.status_code, response.json()["error"]["message"]

    running = records.add(new_recording(meeting_id="running"))
    assert await refusal(running, {}) == (
        409, f"recording {running.id} is INVOKED and has no files to upload yet",
    )  # fmt: skip
    other = records.add(new_recording(organization_id="other"))
    assert (await refusal(other, {}))[0] == 404
    private = S3 | {"endpoint": "http://127.0.0.1:9"}
    assert (await refusal(given_up, {"storage_config": private}))[0] == 422
    records.set_transfer(given_up.id, Transfer(target="s3", state=TransferState.DONE))
    assert (await refusal(given_up, {}))[0] == 409
    records.expire(given_up)
    status, message = await refusal(given_up, {"storage_config": S3})
    assert (status, "no longer has the files" in message) == (409, True)


async def test_what_the_store_says_should_not_be_shown(
    client: httpx.AsyncClient, farm: Farm, given_up: Recording
) -> None:
    error = TransferError(code="full", message=f"{farm.settings.data_dir}: the disk is full")
    location = f"file://{farm.settings.data_dir}/store"
    farm.records.set_transfer(
        given_up.id, Transfer(target=STORE, state=TransferState.WAITING, error=error, location=location)
    )
    response = await client.get(f"/v2/recordings/{given_up.id}")
    assert str(farm.settings.data_dir) not in response.text
    assert response.json()["data"]["transfers"][0]["error"]["code"] == "full"


async def test_store_that_fails_should_not_lose_the_recording_that_is_deleted(
    client: httpx.AsyncClient, settings: Settings, given_up: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("no_permission", f"{settings.data_dir}: the farm has no permission to write there")

    with monkeypatch.context() as broken:
        broken.setattr(Store, "delete", fail)
        response = await client.delete(f"/v2/recordings/{given_up.id}")
    assert (response.status_code, response.json()["error"]["type"]) == (503, "store_unavailable")
    assert str(settings.data_dir) not in response.text
    assert (await client.delete(f"/v2/recordings/{given_up.id}")).status_code == 200


async def test_deleting_should_delete_files_and_keys(
    client: httpx.AsyncClient, farm: Farm, given_up: Recording
) -> None:
    assert list((farm.settings.data_dir / "store").glob("[!.]*"))
    assert (await client.delete(f"/v2/recordings/{given_up.id}")).status_code == 200
    assert list((farm.settings.data_dir / "store").glob("[!.]*")) == []
    left = [key for key in farm.redis.scan_iter() if str(given_up.id).encode() in key]
    assert left == []
    assert farm.redis.zcard("farm:kept") == 0
