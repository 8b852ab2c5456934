import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from api.evidence import without_the_machine, zip_pieces
from browser_bot.errors import StageError
from farm.evidence import collect
from farm.records import Records
from farm.settings import Settings
from farm.spool import evidence_dir
from tests.conftest import MakeRecording

KIT = "/client/v4/accounts/account/realtime/kit/app"


@pytest.fixture
async def recording_id(
    records: Records, settings: Settings, make_recording: MakeRecording, tmp_path: Path
) -> str:
    """A recording that has a log, and evidence of two faults."""
    recording = records.add(make_recording())
    directory = evidence_dir(settings, str(recording.id))
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "take-000.log").write_text(f"Input #1, pulse, from 'unix:{tmp_path}/pulse.sock':\n")
    for fault in ("Xorg ended", f"PulseAudio ended: {tmp_path}/pulse.sock is gone"):
        await collect(directory, None, None, spool, StageError(fault))
    (directory / "recorder.log").write_text(f'page https://meet.test/a/b?token=c\n  File "{tmp_path}/a.py"\n')
    (directory / "fault-001" / "display.log").write_text(
        "Current Operating System: Linux host 6.1\nKernel command line: root=UUID secret=1\nready\n"
    )
    (directory / "fault-001" / "page.png").write_bytes(b"\x89PNG\r\n /etc/passwd is a picture here")
    return str(recording.id)


@pytest.mark.parametrize("dialect", ["/v2", KIT])
async def test_evidence_should_come_as_a_zip(
    client: httpx.AsyncClient, recording_id: str, dialect: str
) -> None:
    response = await client.get(
        f"{dialect}/recordings/{recording_id}/evidence",
        headers={"Authorization": "Bearer acme-key"},
        auth=None,
    )
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/zip"
    name = f"evidence-{recording_id}.zip"
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert response.headers["x-content-type-options"] == "nosniff"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {
            "recorder.log", "fault-001/fault.json", "fault-001/page.png", "fault-001/ffmpeg.log",
            "fault-001/display.log", "fault-001/resources.json", "fault-002/fault.json",
            "fault-002/ffmpeg.log", "fault-002/resources.json",
        }  # fmt: skip
        assert json.loads(archive.read("fault-001/fault.json"))["message"] == "Xorg ended"
        assert archive.read("fault-001/page.png").endswith(b" /etc/passwd is a picture here")


async def test_zip_should_tell_nothing_of_the_machine(
    client: httpx.AsyncClient, recording_id: str, tmp_path: Path
) -> None:
    response = await client.get(f"/v2/recordings/{recording_id}/evidence")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        texts = {name: archive.read(name).decode(errors="replace") for name in archive.namelist()}
    assert not [name for name, text in texts.items() if str(tmp_path) in text]
    assert texts["recorder.log"] == 'page https://meet.test/a/b?token=c\n  File ".../a.py"\n'
    assert texts["fault-001/ffmpeg.log"].endswith("Input #1, pulse, from 'unix:.../pulse.sock':\n")
    assert "PulseAudio ended: .../pulse.sock is gone" in texts["fault-002/fault.json"]
    assert texts["fault-001/display.log"] == (
        "Current Operating System: ...\nKernel command line: ...\nready\n"
    )


async def test_zip_should_hold_nothing_but_evidence(
    client: httpx.AsyncClient, recording_id: str, settings: Settings
) -> None:
    directory = evidence_dir(settings, recording_id)
    (directory / "other.txt").write_text("secret")
    (directory / "fault-001" / "other.txt").write_text("secret")
    (directory / "fault-x").mkdir()
    (directory / "fault-x" / "fault.json").write_text("secret")
    response = await client.get(f"/v2/recordings/{recording_id}/evidence")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert not [name for name in archive.namelist() if archive.read(name) == b"secret"]


async def test_head_should_have_the_headers_alone(client: httpx.AsyncClient, recording_id: str) -> None:
    response = await client.head(f"/v2/recordings/{recording_id}/evidence")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "application/zip"


async def test_evidence_of_others_and_of_nothing_should_not_be_found(
    client: httpx.AsyncClient, recording_id: str
) -> None:
    path = f"/v2/recordings/{recording_id}/evidence"
    assert (await client.get(path, auth=("other", "other-key"))).status_code == 404
    assert (await client.get(f"/v2/recordings/{uuid4()}/evidence")).status_code == 404
    assert (await client.get("/v2/recordings/..%2F..%2Fetc/evidence")).status_code == 404
    assert (await client.get(path, auth=None)).status_code == 401


async def test_evidence_on_another_machine_should_be_told_so(
    client: httpx.AsyncClient, records: Records, make_recording: MakeRecording
) -> None:
    recording = records.add(make_recording())
    response = await client.get(f"/v2/recordings/{recording.id}/evidence")
    assert response.status_code == 404
    message = response.json()["error"]["message"]
    assert str(recording.id) in message
    assert "stays on the node that recorded" in message


def test_zip_should_be_made_in_bounded_memory(tmp_path: Path) -> None:
    log = tmp_path / "recorder.log"
    with log.open("wb") as file:
        for number in range(100_000):
            file.write(b"%d: the same in each of many lines of a log that grows all day long\n" % number)
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in zip_pieces({"recorder.log": log}))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1e5 < size < log.stat().st_size / 5
    assert peak < 1e6


def test_file_that_vanishes_should_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("here")
    files = {"gone": tmp_path / "gone", "kept": tmp_path / "kept"}
    with zipfile.ZipFile(io.BytesIO(b"".join(zip_pieces(files)))) as archive:
        assert archive.namelist() == ["kept"]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("opened /srv/farm/data/spool/x", "opened .../x"),
        ("-auth=/tmp/a/b, 'unix:/run/c.sock'", "-auth=.../b, 'unix:.../c.sock'"),
        ("page https://host:8/a/b/c?d=e and http://[::1]:8000/a/b", None),
        ("9 frames/s, 3/4", None),
    ],
)
def test_directories_should_be_left_out_of_lines(line: str, shown: str | None) -> None:
    assert without_the_machine(line.encode()).decode() == (shown or line)
