import io
import json
import os
import random
import shutil
import socket
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from recording_farm.browser_bot.errors import StageError
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.evidence.archive import entry_of_file, strip_machine_details, zip_pieces
from recording_farm.farm.evidence.collect import collect
from recording_farm.farm.evidence.directory import evidence_dir
from recording_farm.farm.evidence.uploader import EvidenceUploader
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.records import Records
from testkit.api.client import ACME, OTHER, client_of
from testkit.api.serving import served_in_thread
from testkit.farm import Farm
from testkit.recordings import new_recording
from testkit.waiting import wait_until

KIT = "/client/v4/accounts/account/realtime/kit/app"


@pytest.fixture
async def recording_id(farm: Farm, tmp_path: Path) -> str:
    """A recording that has a log, and evidence of two faults."""
    recording = farm.add()
    directory = evidence_dir(farm.settings, str(recording.id))
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


async def test_missing_evidence_should_be_explained(client: httpx.AsyncClient, records: Records) -> None:
    recording = records.add(new_recording())

    async def told() -> str:
        response = await client.get(f"/v2/recordings/{recording.id}/evidence")
        assert response.status_code == 404
        return str(response.json()["error"]["message"])

    assert "no node has started it" in await told()
    records.change_state(recording.id, Status.RECORDING, node="node-2")
    assert "is running on the node node-2" in await told()
    records.change_state(recording.id, Status.ERRORED)
    assert "the node node-2 has not uploaded it yet" in await told()


@pytest.fixture
def theirs(settings: Settings, tmp_path: Path) -> Settings:
    """The settings of another node, whose data directory the API does not see; the store is the same."""
    store = f"file://{settings.data_dir}/store"
    return settings.model_copy(update={"node": "node-2", "data_dir": tmp_path / "theirs", "store_url": store})


def keep_log(settings: Settings, recording_id: object, text: str) -> Path:
    directory = evidence_dir(settings, str(recording_id))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "recorder.log").write_text(text)
    return directory


async def names_of(client: httpx.AsyncClient, recording_id: object) -> dict[str, bytes]:
    response = await client.get(f"/v2/recordings/{recording_id}/evidence")
    assert response.status_code == 200, response.text
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


async def test_evidence_of_another_node_should_come_from_the_store(
    client: httpx.AsyncClient, farm: Farm, theirs: Settings, tmp_path: Path
) -> None:
    recording = farm.add()
    directory = keep_log(theirs, recording.id, f"it begins in {tmp_path}/x\n")
    farm.records.change_state(recording.id, Status.RECORDING, node="node-2")
    await collect(directory, None, None, tmp_path, StageError("Xorg ended"))
    EvidenceUploader(theirs, farm.redis).run_once()
    # While it is still being made there.
    found = await names_of(client, recording.id)
    assert set(found) == {f"fault-001/{name}" for name in ("fault.json", "ffmpeg.log", "resources.json")} | {
        "recorder.log"
    }
    assert found["recorder.log"] == b"it begins in .../x\n"
    assert json.loads(found["fault-001/fault.json"])["message"] == "Xorg ended"
    path = f"/v2/recordings/{recording.id}/evidence"
    assert (await client.head(path)).status_code == 200
    assert (await client.get(path, auth=("other", "other-key"))).status_code == 404


async def test_evidence_of_several_nodes_should_come_in_a_directory_for_each(
    client: httpx.AsyncClient, farm: Farm, theirs: Settings
) -> None:
    recording = farm.add()
    for node in (farm.settings, theirs):
        keep_log(node, recording.id, f"{node.node}\n")
    farm.records.change_state(recording.id, Status.ERRORED)
    for node in (farm.settings, theirs):
        EvidenceUploader(node, farm.redis).run_once()
    # What lies here has come into the store as well, and is there once all the same.
    keep_log(farm.settings, recording.id, "newer\n")
    found = await names_of(client, recording.id)
    here, (other,) = found.pop("here/recorder.log"), found
    assert here == b"newer\n"
    assert (other[:7], other[-13:]) == ("node-2-", "/recorder.log")
    assert found[other] == b"node-2\n"


async def test_deleted_recording_should_leave_no_evidence_anywhere(
    client: httpx.AsyncClient, farm: Farm, theirs: Settings
) -> None:
    recording = farm.add()
    directories = [keep_log(node, recording.id, "\n") for node in (farm.settings, theirs)]
    farm.records.change_state(recording.id, Status.ERRORED)
    uploader = EvidenceUploader(theirs, farm.redis)
    uploader.run_once()
    store = farm.settings.data_dir / "store"
    assert len(list(store.glob("*/evidence-*.zip"))) == 1
    assert (await client.delete(f"/v2/recordings/{recording.id}")).status_code == 200
    assert [path for path in store.iterdir() if path.is_dir()] == []
    EvidenceUploader(theirs, farm.redis).run_once()
    assert [directory.exists() for directory in directories] == [False, False]
    assert farm.redis.keys("farm:evidence*") == []


async def test_zip_in_the_store_should_give_nothing_but_evidence(
    client: httpx.AsyncClient, farm: Farm, theirs: Settings
) -> None:
    recording = farm.add()
    keep_log(theirs, recording.id, "\n")
    farm.records.change_state(recording.id, Status.ERRORED)
    EvidenceUploader(theirs, farm.redis).run_once()
    (part,) = (farm.settings.data_dir / "store").glob("*/evidence-*.zip")
    part.unlink()
    with zipfile.ZipFile(part, "w") as archive:
        for name in (
            "recorder.log",
            "../page.png",
            "fault-001/../page.png",
            "fault-001/other",
            "/recorder.log",
        ):
            archive.writestr(name, "x")
    assert set(await names_of(client, recording.id)) == {"recorder.log"}
    part.unlink()
    part.write_bytes(b"no zip")
    response = await client.get(f"/v2/recordings/{recording.id}/evidence")
    assert response.status_code == 503
    assert "cannot read the evidence of" in response.json()["error"]["message"]


async def test_evidence_should_be_encrypted_where_the_store_is(
    farm: Farm, theirs: Settings, tmp_path: Path
) -> None:
    sealed = theirs.model_copy(update={"store_encryption": True, "store_url": f"file://{tmp_path}/sealed"})
    recording = farm.add()
    keep_log(sealed, recording.id, "what the page said\n")
    farm.records.change_state(recording.id, Status.ERRORED)
    EvidenceUploader(sealed, farm.redis).run_once()
    (part,) = (tmp_path / "sealed").glob("*/evidence-*.zip")
    assert not zipfile.is_zipfile(part)
    # An API that has the secret, and not what lies on the node.
    shutil.rmtree(sealed.evidence_dir)
    async with client_of(sealed) as client:
        assert await names_of(client, recording.id) == {"recorder.log": b"what the page said\n"}


@contextmanager
def asking(address: str, recording_id: object) -> Iterator[socket.socket]:
    """A connection on which a zip is asked for, and of the answer only the beginning is read."""
    parts = urlsplit(address)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        client.settimeout(30)
        client.connect((parts.hostname, parts.port))
        client.sendall(
            f"GET /v2/recordings/{recording_id}/evidence HTTP/1.1\r\nHost: farm.test\r\n"
            "Authorization: Bearer acme-key\r\n\r\n".encode()
        )
        assert client.recv(13) == b"HTTP/1.1 200 "
        yield client


def copies_here() -> list[str]:
    """The copies of parts that this process has open; their names are gone already."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [path for path in found if "/node-" in path and path.endswith(" (deleted)")]


@pytest.fixture
def large(farm: Farm, theirs: Settings) -> Recording:
    """A recording with evidence of three nodes in the store, each of 4 MiB that cannot be packed."""
    recording = farm.add()
    nodes = [
        theirs.model_copy(update={"node": f"node-{number}", "data_dir": theirs.data_dir / str(number)})
        for number in (2, 3, 4)
    ]
    for node in nodes:
        place = keep_log(node, recording.id, "\n") / "fault-001"
        place.mkdir()
        (place / "page.png").write_bytes(random.Random(node.node).randbytes(4 << 20))
    farm.records.change_state(recording.id, Status.ERRORED)
    for node in nodes:
        EvidenceUploader(node, farm.redis).run_once()
    return recording


def test_zip_that_is_not_read_should_cost_no_more_than_one_part_of_it(
    settings: Settings, large: Recording
) -> None:
    with served_in_thread(settings) as address:
        with asking(address, large.id):
            seen = []
            for _ in range(20):
                seen.append(len(copies_here()))
                time.sleep(0.05)
            assert max(seen) == 1
        wait_until(lambda: not copies_here())
        whole = httpx.get(f"{address}/v2/recordings/{large.id}/evidence", auth=ACME, timeout=60)
    with zipfile.ZipFile(io.BytesIO(whole.content)) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 6
    assert copies_here() == []


def test_zips_that_are_not_read_should_be_few(farm: Farm, large: Recording) -> None:
    others = farm.add(organization_id="other")
    keep_log(farm.settings, others.id, "theirs\n")
    with served_in_thread(farm.settings) as address, ExitStack() as clients:
        mine = f"{address}/v2/recordings/{large.id}/evidence"
        first, *_ = [clients.enter_context(asking(address, large.id)) for _ in range(4)]
        refused = httpx.get(mine, auth=ACME)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        assert refused.json()["error"]["type"] == "too_many_downloads"
        assert httpx.head(mine, auth=ACME).status_code == 200
        other = httpx.get(f"{address}/v2/recordings/{others.id}/evidence", auth=OTHER, timeout=30)
        assert other.status_code == 200
        first.close()
        wait_until(lambda: httpx.get(mine, auth=ACME, timeout=60).status_code == 200)


def test_zip_that_is_not_read_in_time_should_end(
    settings: Settings, large: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.api.routes.evidence._MAX_SECONDS", 2)
    began = time.monotonic()
    with served_in_thread(settings) as address, asking(address, large.id) as client:
        wait_until(lambda: copies_here())
        # Between two parts there is no copy, either.
        wait_until(lambda: time.monotonic() - began > 2 and not copies_here())
        rest = bytearray()
        while data := client.recv(1 << 20):
            rest += data
    # No last chunk: nobody can take it for the whole.
    assert len(rest) < 12 << 20
    assert not rest.endswith(b"0\r\n\r\n")


async def test_part_that_cannot_be_read_should_not_hide_the_others(
    client: httpx.AsyncClient, settings: Settings, large: Recording
) -> None:
    first, *_ = sorted((settings.data_dir / "store").glob("*/evidence-*.zip"))
    first.unlink()
    first.write_bytes(b"no zip")
    found = await names_of(client, large.id)
    part = first.stem.removeprefix("evidence-")
    told = found.pop("missing.txt").decode()
    assert told == f"cannot be read from the store: {part}\n"
    assert {name[:7] for name in found} == {"node-3-", "node-4-"}
    # What lies here is not hidden either.
    keep_log(settings, large.id, "here\n")
    assert {"here/recorder.log", "missing.txt"} < set(await names_of(client, large.id))


def test_zip_should_be_made_in_bounded_memory(tmp_path: Path) -> None:
    log = tmp_path / "recorder.log"
    with log.open("wb") as file:
        for number in range(100_000):
            file.write(b"%d: the same in each of many lines of a log that grows all day long\n" % number)
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in zip_pieces([entry_of_file("recorder.log", log)]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1e5 < size < log.stat().st_size / 5
    assert peak < 1e6


def test_file_that_vanishes_should_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("here")
    entries = [entry_of_file(name, tmp_path / name) for name in ("gone", "kept")]
    with zipfile.ZipFile(io.BytesIO(b"".join(zip_pieces(entries)))) as archive:
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
    assert strip_machine_details(line.encode()).decode() == (shown or line)
