"""The whole farm with its store in a bucket or a container, and the customer's copy beside it."""

import json
import time
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from azure.storage.blob import BlobServiceClient

from testkit.machine.processes import wait_until_none
from testkit.pages import FIDELITY_PAGE, serve_pages
from testkit.running_farm import RunningFarm, running_farm
from testkit.storage.azure_account import AZURE_ACCOUNT, AZURE_KEY
from testkit.storage.buckets import s3_at

pytestmark = pytest.mark.long


@pytest.fixture
def s3(s3_endpoint: str) -> Any:
    return s3_at(s3_endpoint)


def record(farm: RunningFarm, page: str, **wanted: Any) -> dict[str, Any]:
    started = farm.start(url=page, **wanted)
    farm.wait_for(started["id"], "RECORDING")
    farm.order(started["id"], "stop")
    return farm.wait_for(started["id"], "UPLOADED")


def downloaded(link: str, target: Path) -> Path:
    answer = httpx.get(link)
    assert answer.status_code == 200, answer.text
    target.write_bytes(answer.content)
    part = httpx.get(link, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, answer.content[10:20])
    return target


def streams_of(file: Path) -> list[str]:
    with av.open(str(file)) as source:
        return [stream.codec_context.name for stream in source.streams]


def test_store_in_s3_should_give_links_and_forget_what_is_deleted(
    s3_endpoint: str, s3: Any, tmp_path: Path
) -> None:
    bucket = s3.create_bucket(Bucket="store")
    customers = s3.create_bucket(Bucket="customers")
    storage = {
        "type": "s3", "bucket": "customers", "access_key": "key", "secret": "secret", "endpoint": s3_endpoint,
        "path": "{meeting_id}", "encryption": {"type": "SSE-S3"},
    }  # fmt: skip
    with (
        serve_pages(FIDELITY_PAGE.parent) as pages,
        running_farm(
            tmp_path / "data",
            FARM_STORE_URL=f"s3://store/films?endpoint={s3_endpoint}",
            FARM_STORE_ACCESS_KEY="key",
            FARM_STORE_SECRET="secret",
        ) as farm,
    ):
        recording = record(farm, f"{pages}/page.html", audio_config={"codec": "MP3"}, storage_config=storage)
        name = Path(recording["output_file_name"])
        video = downloaded(recording["download_url"], tmp_path / "video.mp4")
        audio = downloaded(recording["audio_download_url"], tmp_path / "audio.mp3")
        assert (streams_of(video), streams_of(audio)) == (["h264", "aac"], ["mp3float"])
        assert video.stat().st_size == recording["file_size"]
        names = {name.with_suffix(suffix).name for suffix in (".mp4", ".mp3", ".json")}
        # The evidence comes by itself, within seconds.
        assert {each.key for each in bucket.objects.all() if "/evidence-" not in each.key} == {
            f"films/{recording['id']}/{each}" for each in names
        }
        assert {each.key for each in customers.objects.all()} == {f"demo/{each}" for each in names}
        copy = customers.Object(f"demo/{name}")
        assert copy.get()["Body"].read() == video.read_bytes()
        assert copy.server_side_encryption == "AES256"
        manifest = json.loads(customers.Object(f"demo/{name.with_suffix('.json')}").get()["Body"].read())
        assert [(file["name"], file["bytes"]) for file in manifest["files"]] == [
            (name.name, video.stat().st_size),
            (name.with_suffix(".mp3").name, audio.stat().st_size),
        ]
        assert manifest["recording"]["id"] == recording["id"]
        assert list((farm.data_dir / "spool").iterdir()) == []
        assert not (farm.data_dir / "store").exists()
        farm.answer(farm.client.delete(f"/v2/recordings/{recording['id']}"))
        assert list(bucket.objects.all()) == []
        assert len(list(customers.objects.all())) == 3
    for each in (bucket, customers):
        each.objects.all().delete()
        each.delete()
    assert wait_until_none() == []


def test_hls_should_grow_in_the_store_and_the_customers_bucket(
    s3_endpoint: str, s3: Any, tmp_path: Path
) -> None:
    bucket, customers = s3.create_bucket(Bucket="hls-store"), s3.create_bucket(Bucket="hls-customers")
    storage = {
        "type": "s3", "bucket": "hls-customers", "access_key": "key", "secret": "secret",
        "endpoint": s3_endpoint, "path": "{meeting_id}",
    }  # fmt: skip
    with (
        serve_pages(FIDELITY_PAGE.parent) as pages,
        running_farm(
            tmp_path / "data",
            FARM_STORE_URL=f"s3://hls-store?endpoint={s3_endpoint}",
            FARM_STORE_ACCESS_KEY="key",
            FARM_STORE_SECRET="secret",
        ) as farm,
    ):
        started = farm.start(url=f"{pages}/page.html", storage_config=storage, outputs=[{"type": "HLS"}])
        stem = Path(started["output_file_name"]).stem
        deadline = time.monotonic() + 60
        while f"demo/{stem}.m3u8" not in {each.key for each in customers.objects.all()}:
            assert time.monotonic() < deadline, farm.log()
            time.sleep(0.2)
        assert farm.order(started["id"], "stop")["status"] != "UPLOADED"
        recording = farm.wait_for(started["id"], "UPLOADED")
        while (output := recording["outputs"][0])["state"] != "ENDED":
            assert time.monotonic() < deadline, output
            recording = farm.answer(farm.client.get(f"/v2/recordings/{started['id']}"))
        playlist = customers.Object(f"demo/{stem}.m3u8").get()["Body"].read().decode()
        names = [line for line in playlist.splitlines() if not line.startswith("#")]
        assert "#EXT-X-ENDLIST" in playlist
        keys = {each.key for each in customers.objects.all()}
        assert {f"demo/{name}" for name in names} <= keys
        # The store's own are links of the bucket's.
        links = [line for line in httpx.get(output["url"]).text.splitlines() if not line.startswith("#")]
        assert len(links) == len(names)
        assert streams_of(downloaded(links[0], tmp_path / "segment.ts")) == ["h264", "aac"]
        farm.answer(farm.client.delete(f"/v2/recordings/{recording['id']}"))
        assert list(bucket.objects.all()) == []
        assert list((farm.data_dir / "live").rglob("*.ts")) == []
    for each in (bucket, customers):
        each.objects.all().delete()
        each.delete()
    assert wait_until_none() == []


def test_store_in_azure_should_give_links_and_upload_elsewhere(
    azurite_port: int, s3_endpoint: str, s3: Any, tmp_path: Path
) -> None:
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
        f"BlobEndpoint=http://127.0.0.1:{azurite_port}/{AZURE_ACCOUNT};"
    )
    with BlobServiceClient.from_connection_string(connection) as service:
        container = service.create_container("store")
        with (
            serve_pages(FIDELITY_PAGE.parent) as pages,
            running_farm(
                tmp_path / "data", FARM_STORE_URL="azure://store", FARM_STORE_SECRET=connection
            ) as farm,
        ):
            recording = record(farm, f"{pages}/page.html", video_config={"export_file": False})
            assert recording["download_url"] is None
            audio = downloaded(recording["audio_download_url"], tmp_path / "audio.m4a")
            assert streams_of(audio) == ["aac"]
            # Long after, from the store.
            bucket = s3.create_bucket(Bucket="later")
            storage = {
                "type": "s3", "bucket": "later", "access_key": "key", "secret": "secret",
                "endpoint": s3_endpoint,
            }  # fmt: skip
            recording = farm.answer(
                farm.client.post(f"/v2/recordings/{recording['id']}/upload", json={"storage_config": storage})
            )
            while recording["transfers"][-1]["state"] != "DONE":
                recording = farm.wait_for(recording["id"], "UPLOADED")
            copy = s3.Object("later", recording["output_file_name"])
            assert copy.get()["Body"].read() == audio.read_bytes()
            bucket.objects.all().delete()
            bucket.delete()
        container.delete_container()
    assert wait_until_none() == []
