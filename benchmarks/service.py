"""The service: how long from a request to RECORDING, and from a stop to UPLOADED."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.end_to_end.conftest import Farm, running_farm
from tests.pages import FIDELITY_PAGE, serve_pages

TIMES = 5
MINUTE = 60.0
SHORT = 5.0


def run(directory: Path) -> Iterator[str]:
    """Time several recordings through REST; the last one is a minute long."""
    starts, stops = [], []
    with serve_pages(FIDELITY_PAGE.parent) as pages, running_farm(directory / "data") as farm:
        for number in range(TIMES):
            start, stop = _time_one(farm, f"{pages}/page.html", MINUTE if number == TIMES - 1 else SHORT)
            starts.append(start)
            stops.append(stop)
    yield f"POST to RECORDING, cold stage: median {median(starts):.2f} s, worst {max(starts):.2f} s"
    yield f"stop to UPLOADED, directory store, recordings of {SHORT:.0f} s: median {median(stops[:-1]):.2f} s"
    yield f"stop to UPLOADED, directory store, recording of a minute: {stops[-1]:.2f} s"


def _time_one(farm: Farm, page: str, seconds: float) -> tuple[float, float]:
    began = time.monotonic()
    recording = farm.start(url=page)
    farm.wait_for(recording["id"], "RECORDING")
    started = time.monotonic()
    time.sleep(seconds)
    stopped = time.monotonic()
    farm.order(recording["id"], "stop")
    farm.wait_for(recording["id"], "UPLOADED")
    return started - began, time.monotonic() - stopped
