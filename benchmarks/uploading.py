"""Fidelity of a recording whose file is uploaded meanwhile, beside another one that fills parts."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testkit.fidelity.measure import PROMISED, measure
from testkit.machine.load import Stolen
from testkit.pages import FIDELITY_PAGE, NOISE, serve_pages
from testkit.running_farm import RunningFarm, running_farm
from testkit.storage.places import azure_place, s3_place

SECONDS = 120
MEASURED = {"width": 1280, "height": 720}
FILLING = {"width": 640, "height": 360, "profile": "motion"}
"""Small, so that two recordings fit two cores: its bytes count, not its pixels."""


def run(directory: Path) -> Iterator[str]:
    """Record two minutes into a store in S3 and a customer's Azurite: alone, and beside a page of noise.

    Two recordings share the processors, so the second is repeated with nothing to upload.
    """
    for name in ("pages", "s3", "azurite"):
        (directory / name).mkdir()
    (directory / "pages" / "noise.html").write_text(NOISE)
    with (
        serve_pages(FIDELITY_PAGE.parent) as page,
        serve_pages(directory / "pages") as noise,
        s3_place(directory / "s3") as store,
        azure_place(directory / "azurite") as customer,
    ):
        pages = f"{page}/page.html", f"{noise}/noise.html"
        wanted = {"storage_config": dict(customer.target or {})}
        with running_farm(directory / "uploading", **store.settings, FARM_SLOTS="2") as farm:
            yield f"the replica alone: {_record(farm, pages[0], directory, wanted)}"
            yield f"beside a page of noise, {_record_beside(farm, *pages, directory, wanted)}"
        with running_farm(directory / "linking", FARM_SLOTS="2") as farm:
            yield f"the same with nothing to upload, {_record_beside(farm, *pages, directory, {})}"


def _record_beside(farm: RunningFarm, page: str, noise: str, directory: Path, wanted: dict[str, Any]) -> str:
    other = farm.start(meeting_id="noise", url=noise, video_config=FILLING, **wanted)
    farm.wait_for(other["id"], "RECORDING")
    measured = _record(farm, page, directory, wanted)
    sent = _uploaded(farm, other["id"])
    farm.order(other["id"], "stop")
    farm.wait_for(other["id"], "UPLOADED")
    return f"which uploaded {sent} MB: {measured}"


def _record(farm: RunningFarm, url: str, directory: Path, wanted: dict[str, Any]) -> str:
    stolen = Stolen.from_now()
    recording = farm.start(url=url, video_config=MEASURED, **wanted)
    farm.wait_for(recording["id"], "RECORDING")
    time.sleep(SECONDS)
    share = stolen.share()
    farm.order(recording["id"], "stop")
    file = farm.download(farm.wait_for(recording["id"], "UPLOADED"), directory / f"{recording['id']}.mp4")
    fidelity = measure(file).after(1)
    verdict = "; ".join(fidelity.faults(PROMISED)) or "as promised"
    return f"{fidelity.summary()}; steal {share:.1%}; {verdict}"


def _uploaded(farm: RunningFarm, recording_id: str) -> str:
    transfers = farm.wait_for(recording_id, "RECORDING")["transfers"]
    return " and ".join(f"{(each['uploaded_bytes'] or 0) / 1e6:.1f}" for each in transfers)
