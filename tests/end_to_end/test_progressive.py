"""A recording whose file is in the storages before it ends, but for its head and its last seconds."""

import time
from pathlib import Path
from typing import Any

import pytest

from testkit.encoder.films import decoded_seconds
from testkit.machine.processes import wait_until_none
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
