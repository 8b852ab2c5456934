"""A body that grows, sent to real servers in parts while it does."""

import threading
import time
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.progressive.places import Place, place_of
from recording_farm.farm.progressive.sending import Sender, drop_ahead, finish_ahead
from recording_farm.farm.progressive.sent_parts import (
    FIRST_BYTES,
    LEAST_PART_BYTES,
    part_bytes_of,
    read_ahead,
    targets_ahead,
)
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.host_keys import HostKeys
from recording_farm.farm.storage.parts import PartRules
from recording_farm.farm.storage.targets import TARGET, SftpTarget
from testkit.farm import Farm
from testkit.network.wire import wire_to
from testkit.recordings import new_recording, sealed_target
from testkit.settings import settings_with
from testkit.storage.buckets import bucket_at
from testkit.storage.growing_body import BODY, HEAD, IDENTITY, Growing, stop, wait_for_parts
from testkit.storage.servers import S3_KEY, S3_SECRET, SshServer

MIB = 1 << 20


@pytest.fixture
def settings(tmp_path: Path, redis_address: str) -> Settings:
    """Settings that allow storages on this machine."""
    return settings_with(tmp_path / "data", redis_address, allow_private_addresses="127.0.0.0/8")


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    outbox = Outbox(tmp_path / "out")
    outbox.make()
    return outbox


def s3_target(port: int) -> dict[str, Any]:
    return {
        "type": "s3",
        "bucket": "films",
        "access_key": S3_KEY,
        "secret": S3_SECRET,
        "endpoint": f"http://127.0.0.1:{port}",
    }


@pytest.fixture
def port(s3_endpoint: str) -> int:
    return int(s3_endpoint.rpartition(":")[2])


def place_at(farm: Farm, port: int) -> Place:
    recording = new_recording()
    place = place_of(
        recording, "s3", sealed_target(farm.settings, recording, s3_target(port)).sealed, farm.settings
    )
    assert place is not None
    return place


def test_parts_should_be_sent_while_the_body_grows_and_the_rest_at_the_end(
    farm: Farm, outbox: Outbox, s3_endpoint: str, port: int
) -> None:
    body = Growing(FIRST_BYTES + LEAST_PART_BYTES - 1)
    with bucket_at(s3_endpoint, "films") as bucket, wire_to(port) as wire:
        place = place_at(farm, wire.port)
        sender = Sender(outbox, "s3", place, LEAST_PART_BYTES, IDENTITY, body.read)
        sender.start()
        time.sleep(1)
        assert targets_ahead(outbox) == []  # a file that stays small goes as a whole
        body.size += 1
        wait_for_parts(outbox, 1)
        stop(sender)
        # Another process continues.
        body.size = BODY
        sender = Sender(outbox, "s3", place, LEAST_PART_BYTES, IDENTITY, body.read)
        sender.start()
        wait_for_parts(outbox, 2)
        stop(sender)
        file = body.finish(outbox)
        before = wire.passed
        placed = finish_ahead(outbox, "s3", place, file, BODY, IDENTITY)
        assert placed is not None
        assert wire.passed - before < HEAD + FIRST_BYTES + 4 * MIB
        (stored,) = bucket.objects.all()
        assert stored.get()["Body"].read() == file.read_bytes()
        assert placed.size == HEAD + BODY


def test_upload_that_the_storage_has_forgotten_should_be_left_to_the_whole_file(
    farm: Farm, outbox: Outbox, strict_s3_endpoint: str
) -> None:
    body = Growing(BODY)
    with bucket_at(strict_s3_endpoint, "films"):
        place = place_at(farm, int(strict_s3_endpoint.rpartition(":")[2]))
        sender = Sender(outbox, "s3", place, LEAST_PART_BYTES, IDENTITY, body.read)
        sender.start()
        wait_for_parts(outbox, 2)
        stop(sender)
        ahead = read_ahead(outbox, "s3")
        assert ahead is not None
        place.abort(ahead.begun)
        assert finish_ahead(outbox, "s3", place, body.finish(outbox), BODY, IDENTITY) is None
        assert targets_ahead(outbox) == []


def test_parts_of_a_body_that_began_again_should_not_be_in_the_file(
    farm: Farm, outbox: Outbox, s3_endpoint: str, port: int
) -> None:
    body, other = Growing(BODY), Growing(BODY)
    with bucket_at(s3_endpoint, "films") as bucket:
        place = place_at(farm, port)
        for identity, content in (("first", body), (IDENTITY, other)):
            sender = Sender(outbox, "s3", place, LEAST_PART_BYTES, identity, content.read)
            sender.start()
            wait_for_parts(outbox, 2, identity)
            stop(sender)
        assert len(list(bucket.multipart_uploads.all())) == 1
        file = other.finish(outbox)
        assert finish_ahead(outbox, "s3", place, file, BODY, IDENTITY) is not None
        (stored,) = bucket.objects.all()
        assert stored.get()["Body"].read() == file.read_bytes()


def test_storage_that_is_away_should_get_its_parts_when_it_is_back(
    farm: Farm, outbox: Outbox, s3_endpoint: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.farm.progressive.sending._LEAST_WAIT", 0.2)
    body = Growing(BODY)
    with bucket_at(s3_endpoint, "films") as bucket:
        with wire_to(port) as wire:
            place, away = place_at(farm, wire.port), wire.port
        assert away
        sender = Sender(outbox, "s3", place, LEAST_PART_BYTES, IDENTITY, body.read)
        sender.start()
        time.sleep(1)
        assert sender.is_alive()
        stop(sender)
        file = body.finish(outbox)
        assert finish_ahead(outbox, "s3", place, file, BODY, IDENTITY) is None
        assert list(bucket.multipart_uploads.all()) == []


def test_parts_of_a_recording_without_a_file_should_be_dropped(
    farm: Farm, outbox: Outbox, s3_endpoint: str, port: int
) -> None:
    body = Growing(BODY)
    with bucket_at(s3_endpoint, "films") as bucket:
        place = place_at(farm, port)
        sender = Sender(outbox, "s3", place, LEAST_PART_BYTES, IDENTITY, body.read)
        sender.start()
        wait_for_parts(outbox, 1)
        # It waits for the part that is on its way.
        dropping = threading.Thread(target=drop_ahead, args=(outbox, "s3", place))
        dropping.start()
        stop(sender)
        dropping.join(30)
        assert list(bucket.multipart_uploads.all()) == []
        assert targets_ahead(outbox) == []


def test_parts_should_go_to_an_ssh_server_of_a_known_host_key(
    farm: Farm, outbox: Outbox, ssh_server: SshServer, tmp_path: Path
) -> None:
    body = Growing(BODY)
    recording = new_recording(output_file_name="out.mp4")
    storage = {
        "type": "sftp", "host": "127.0.0.1", "port": ssh_server.port, "username": getuser(),
        "auth_method": "KEY", "private_key": ssh_server.key, "path": str(tmp_path / "films"),
    }  # fmt: skip
    sealed = sealed_target(farm.settings, recording, storage).sealed
    place = place_of(recording, "sftp", sealed, farm.settings, HostKeys(farm.redis))
    assert place is not None
    sender = Sender(outbox, "sftp", place, LEAST_PART_BYTES, IDENTITY, body.read)
    sender.start()
    wait_for_parts(outbox, 2, target="sftp")
    stop(sender)
    file = body.finish(outbox)
    assert finish_ahead(outbox, "sftp", place, file, BODY, IDENTITY) is not None
    (stored,) = (tmp_path / "films").iterdir()
    assert stored.read_bytes() == file.read_bytes()
    # The first use has told whom to trust.
    target = TARGET.validate_python(storage)
    assert isinstance(target, SftpTarget)
    assert HostKeys(farm.redis).known(recording.organization_id, target) == ssh_server.host_key
    farm.redis.delete(f"farm:host_keys:{recording.organization_id}")
    HostKeys(farm.redis).keep(recording.organization_id, target, f"SHA256:{'A' * 43}")
    with pytest.raises(StorageError) as raised:
        place.begin()
    assert raised.value.reason == "wrong_host_key"


def test_longest_recording_should_not_have_more_parts_than_a_storage_takes() -> None:
    recording = new_recording(max_seconds=86_400)
    size = part_bytes_of(recording, 27_000_000, PartRules(smallest=5 * MIB))
    assert 27_000_000 / 8 * 86_400 / size < 9_001
    assert part_bytes_of(recording, 1_500_000, PartRules(smallest=5 * MIB)) == LEAST_PART_BYTES
