"""The service: how long from a request to RECORDING, and from a stop to UPLOADED."""

import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from testkit.network.ports import free_port
from testkit.pages import FIDELITY_PAGE, serve_pages
from testkit.running_farm import RunningFarm, running_farm
from testkit.storage.servers import S3_KEY, S3_SECRET, running, strict_s3_server, wait_for_http

TIMES = 5
MINUTE = 60.0
SHORT = 5.0
USUAL = {"width": 1280, "height": 720}
OTHER = {"width": 1024, "height": 576}
WARM = 6.0
"""Seconds in which a slot has opened its next stage."""


def run(directory: Path) -> Iterator[str]:
    """Time several recordings through REST; the last one is a minute long."""
    starts, stops, cold = [], [], []
    with serve_pages(FIDELITY_PAGE.parent) as pages, running_farm(directory / "data") as farm:
        page = f"{pages}/page.html"
        for number in range(TIMES):
            start, stop = _time_one(farm, page, MINUTE if number == TIMES - 1 else SHORT)
            starts.append(start)
            stops.append(stop)
        # The stage that waits is of the size of the last recording.
        for size in islice(cycle((OTHER, USUAL)), TIMES):
            start, _ = _time_one(farm, page, 1.0, video_config=size)
            cold.append(start)
    yield f"POST to RECORDING, warm stage: median {median(starts):.2f} s, worst {max(starts):.2f} s"
    yield f"POST to RECORDING, cold stage: median {median(cold):.2f} s, worst {max(cold):.2f} s"
    yield f"stop to UPLOADED, directory store, recordings of {SHORT:.0f} s: median {median(stops[:-1]):.2f} s"
    yield f"stop to UPLOADED, directory store, recording of a minute: {stops[-1]:.2f} s"
    yield from _into_s3(directory / "s3")


def _into_s3(directory: Path) -> Iterator[str]:
    """A recording of a minute into a store in S3, and to the customer's bucket of the same server."""
    for bucket in ("store", "customers"):
        (directory / "objects" / bucket).mkdir(parents=True)
    port = free_port()
    with running(strict_s3_server(port, directory / "objects"), directory / "log") as server:
        endpoint = f"http://127.0.0.1:{port}"
        wait_for_http(endpoint, server)
        settings = {
            "FARM_STORE_URL": f"s3://store?endpoint={endpoint}",
            "FARM_STORE_ACCESS_KEY": S3_KEY,
            "FARM_STORE_SECRET": S3_SECRET,
        }
        storage = {"type": "s3", "bucket": "customers", "access_key": S3_KEY, "secret": S3_SECRET}
        with (
            serve_pages(FIDELITY_PAGE.parent) as pages,
            running_farm(directory / "data", **settings) as farm,
        ):
            page = f"{pages}/page.html"
            stops = [_time_one(farm, page, MINUTE)[1] for _ in range(3)]
            both = [
                _time_one(farm, page, MINUTE, storage_config=storage | {"endpoint": endpoint})[1]
                for _ in range(3)
            ]
    for name, seconds in (("the store", stops), ("the store and the customer's bucket", both)):
        each = ", ".join(f"{second:.2f}" for second in seconds)
        yield f"stop to UPLOADED, a minute into local S3, {name}: {each} s"


def _time_one(farm: RunningFarm, page: str, seconds: float, **wanted: Any) -> tuple[float, float]:
    time.sleep(WARM)
    began = time.monotonic()
    recording = farm.start(url=page, **({"video_config": USUAL} | wanted))
    farm.wait_for(recording["id"], "RECORDING")
    started = time.monotonic()
    time.sleep(seconds)
    stopped = time.monotonic()
    farm.order(recording["id"], "stop")
    farm.wait_for(recording["id"], "UPLOADED")
    return started - began, time.monotonic() - stopped
