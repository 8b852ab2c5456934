"""A recording whose file is in the storages before it ends, but for its head and its last seconds."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from testkit.encoder.films import decoded_seconds
from testkit.machine.processes import wait_until_none
from testkit.network.wire import wire_to
from testkit.pages import NOISE, serve_pages
from testkit.running_farm import RunningFarm, running_farm
from testkit.storage.buckets import bucket_at
from testkit.waiting import wait_until

pytestmark = pytest.mark.long


def wait_for_upload(farm: RunningFarm, target: str, parts: int) -> None:
    """Wait until so many parts were sent to a target."""
    deadline = time.monotonic() + 120
    while True:
        for file in farm.data_dir.glob(f"spool/*/out/.{target}.ahead"):
            if file.read_text().count('"receipt"') >= parts:
                return
        assert time.monotonic() < deadline, farm.log
        time.sleep(0.2)


def uploaded(farm: RunningFarm, recording_id: str) -> list[int]:
    """The bytes that each target has, as the API says it."""
    transfers = farm.wait_for(recording_id, "RECORDING")["transfers"]
    assert all(0 <= (each["behind_seconds"] or 0) < 60 for each in transfers), transfers
    return [each["uploaded_bytes"] or 0 for each in transfers]


def test_file_should_be_in_store_and_bucket_soon_after_the_stop(s3_endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "noise.html").write_text(NOISE)
    storage: dict[str, Any] = {
        "type": "s3", "bucket": "films", "access_key": "key", "secret": "secret", "endpoint": s3_endpoint,
    }  # fmt: skip
    with (
        bucket_at(s3_endpoint, "store") as store,
        bucket_at(s3_endpoint, "films") as films,
        serve_pages(tmp_path / "pages") as pages,
        running_farm(
            tmp_path / "data",
            FARM_STORE_URL=f"s3://store?endpoint={s3_endpoint}",
            FARM_STORE_ACCESS_KEY="key",
            FARM_STORE_SECRET="secret",
        ) as farm,
    ):
        started = farm.start(
            url=f"{pages}/noise.html", video_config={"profile": "motion"}, storage_config=storage
        )
        for target in ("store", "s3"):
            wait_for_upload(farm, target, parts=2)
        # The report comes every two seconds.
        wait_until(lambda: all(each >= 16 << 20 for each in uploaded(farm, started["id"])), what="it says so")
        farm.order(started["id"], "stop")
        begun = time.monotonic()
        recording = farm.wait_for(started["id"], "UPLOADED")
        seconds = time.monotonic() - begun
        name = recording["output_file_name"]
        kept = store.Object(f"{started['id']}/{name}").get()["Body"].read()
        assert films.Object(name).get()["Body"].read() == kept
        assert len(kept) == recording["file_size"] > 20 << 20
        assert list(store.multipart_uploads.all()) == list(films.multipart_uploads.all()) == []
        (tmp_path / "film.mp4").write_bytes(kept)
        assert decoded_seconds(tmp_path / "film.mp4") == pytest.approx(recording["recording_duration"], abs=1)
        print(f"UPLOADED after {seconds:.2f} s, {len(kept) >> 20} MiB")
    assert wait_until_none() == []


MEBIBYTE = 1 << 20
MOST_MEMORY = 60 * MEBIBYTE
"""What a copy that waits for its storage may cost."""


def test_store_that_is_away_should_delay_nothing_and_get_the_file_when_it_is_back(
    s3_endpoint: str, tmp_path: Path
) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "noise.html").write_text(NOISE)
    storage: dict[str, Any] = {
        "type": "s3", "bucket": "films", "access_key": "key", "secret": "secret", "endpoint": s3_endpoint,
    }  # fmt: skip
    port = urlsplit(s3_endpoint).port
    assert port is not None
    with (
        bucket_at(s3_endpoint, "store") as store,
        bucket_at(s3_endpoint, "films") as films,
        serve_pages(tmp_path / "pages") as pages,
        wire_to(port) as wire,
        running_farm(
            tmp_path / "data",
            FARM_STORE_URL=f"s3://store?endpoint=http://127.0.0.1:{wire.port}",
            FARM_STORE_ACCESS_KEY="key",
            FARM_STORE_SECRET="secret",
        ) as farm,
    ):
        started = farm.start(
            url=f"{pages}/noise.html", video_config={"profile": "motion"}, storage_config=storage
        )

        def sent(place: int) -> int:
            return int(transfers_of(farm, started["id"])[place]["uploaded_bytes"] or 0)

        wait_for_upload(farm, "store", parts=1)
        memory = memory_of_progressive(farm)
        wire.cut_after(0)
        had = sent(0)
        wait_for_upload(farm, "s3", parts=5)
        wait_until(lambda: sent(1) >= 5 * 8 * MEBIBYTE, what="it says so")
        # The customer's copy goes on, the farm's is behind, and what waits is on the disk.
        assert sent(0) <= had + 8 * MEBIBYTE
        assert memory_of_progressive(farm) < memory + MOST_MEMORY
        wire.mend()
        wait_until(lambda: sent(0) >= 5 * 8 * MEBIBYTE, 90, what="it catches up")
        # It is away again when the recording ends.
        wire.cut_after(0)
        farm.order(started["id"], "stop")
        wait_until(
            lambda: [transfer["state"] for transfer in transfers_of(farm, started["id"])][1] == "DONE", 60
        )
        assert transfers_of(farm, started["id"])[0]["state"] != "DONE"
        wire.mend()
        recording = farm.wait_for(started["id"], "UPLOADED", timeout=180)
        name = recording["output_file_name"]
        kept = store.Object(f"{started['id']}/{name}").get()["Body"].read()
        assert films.Object(name).get()["Body"].read() == kept
        assert list(store.multipart_uploads.all()) == list(films.multipart_uploads.all()) == []
        assert [
            each.key for each in store.objects.all() if "/." in each.key or each.key.startswith(".")
        ] == []
        (tmp_path / "film.mp4").write_bytes(kept)
        assert decoded_seconds(tmp_path / "film.mp4") == pytest.approx(recording["recording_duration"], abs=1)


def memory_of_progressive(farm: RunningFarm) -> int:
    """The memory of the process that cuts and uploads, in bytes."""
    (process,) = farm.processes("farm progressiv")  # 15 bytes of its name
    return int(process.memory_full_info().pss)


def transfers_of(farm: RunningFarm, recording_id: str) -> list[dict[str, Any]]:
    recording = farm.answer(farm.client.get(f"/v2/recordings/{recording_id}"))
    transfers: list[dict[str, Any]] = recording["transfers"]
    return transfers
