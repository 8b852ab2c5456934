"""Dockerfile and compose.yaml have what the farm needs; `build_root.py` runs the lines of the Dockerfile."""

import json
import os
import re
import subprocess
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from recording_farm.browser_bot.network.addresses import parse_address_rule
from recording_farm.farm.cli.health import MAX_LENGTH
from recording_farm.farm.cli.up import STOP_TIMEOUT
from recording_farm.farm.config.settings import Settings
from testkit.deploy.dockerfile import Instruction, instructions
from testkit.network.ports import free_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile.chromium"


def of(name: str) -> list[Instruction]:
    return [each for each in instructions(DOCKERFILE) if each.name == name]


def last(name: str) -> str:
    return of(name)[-1].arguments


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return loaded


def test_image_should_have_what_scripts_setup_installs() -> None:
    setup = (ROOT / "scripts" / "setup").read_text()
    wanted = re.search(r"^wanted=\((.*?)^\)", setup, re.MULTILINE | re.DOTALL)
    assert wanted is not None
    packages = {line.split()[0] for line in re.findall(r'"([^"]+)"', wanted[1])} - {"make"}
    (installed,) = [run.arguments for run in of("RUN") if "chromium" in run.arguments]
    assert packages <= set(installed.split())
    # By hand, the same ones are installed.
    steps = (ROOT / "docs" / "operations.md").read_text().partition("## Ordinary user")[2]
    assert packages <= set(steps.partition("sudo systemctl disable")[0].split())


def test_image_should_not_run_as_root_and_have_a_check() -> None:
    assert last("USER") == "10001:10001"
    assert json.loads(last("ENTRYPOINT")) == ["tini", "--", "farm"]
    assert json.loads(last("HEALTHCHECK").partition("CMD ")[2]) == ["farm", "health"]
    # Each part may take all of its time, and Python some to begin.
    (timeout,) = re.findall(r"--timeout=(\d+)s", last("HEALTHCHECK"))
    assert int(timeout) > MAX_LENGTH + 2
    assert len(of("FROM")) == 2
    assert not any("no-sandbox" in each.arguments for each in instructions(DOCKERFILE))


def test_image_should_copy_only_files_of_the_build_context() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = {
        source
        for copy in of("COPY")
        if "--from" not in copy.arguments
        for source in copy.arguments.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_settings_of_the_image_should_exist() -> None:
    names = set(re.findall(r"FARM_\w+(?==)", last("ENV")))
    assert names
    assert names <= {f"FARM_{name.upper()}" for name in Settings.model_fields}


def test_python_packages_should_be_pinned_with_their_hashes() -> None:
    (install,) = [run.arguments for run in of("RUN") if "--require-hashes" in run.arguments]
    assert "deploy/requirements.lock" in install
    lock = (ROOT / "deploy" / "requirements.lock").read_text()
    pinned = re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE)
    assert {"playwright", "prometheus-client", "opentelemetry-sdk", "flit-core", "setuptools"} <= set(pinned)
    assert not {"pytest", "mypy", "moto"} & set(pinned)
    # Each is the version that the tests run with.
    all_of_it = (ROOT / "requirements.lock").read_text()
    for line in re.findall(r"^[a-z0-9._-]+==\S+", lock, re.MULTILINE):
        assert f"\n{line} " in all_of_it or f"\n{line}\n" in all_of_it, line


def test_seccomp_profile_should_allow_no_more_than_it_names() -> None:
    profile = json.loads((ROOT / "deploy" / "seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = [rule for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW"]
    plain = [name for rule in allowed if "args" not in rule for name in rule["names"]]
    assert len(plain) == len(set(plain))
    # These are allowed for some arguments only, or never.
    assert not {"clone", "clone3", "unshare", "setns", "socket", "ptrace", "mount", "bpf"} & set(plain)
    # containerd does not know Docker's conditions, capabilities for instance: it would allow in any case.
    assert {key for rule in allowed for key in rule} == {"comment", "names", "action", "args"}


WORKERS = ("worker-1", "worker-2", "worker-3", "worker-4")


def test_compose_should_have_an_api_workers_redis_and_storage() -> None:
    services = compose()["services"]
    assert {"api", *WORKERS, "redis", "minio", "owner"} == set(services)
    assert [services[name]["hostname"] for name in WORKERS] == list(WORKERS)
    # A node's spool is its own.
    assert len({services[name]["volumes"][0] for name in WORKERS}) == len(WORKERS)
    assert [services[name].get("profiles") for name in WORKERS] == [None, None, ["four"], ["four"]]


def test_compose_should_build_one_image_once() -> None:
    services = compose()["services"]
    assert [name for name, service in services.items() if "build" in service] == ["api"]
    assert {services[name]["image"] for name in ("api", "owner", *WORKERS)} == {"recording-farm"}


def test_compose_should_have_no_fixed_secret() -> None:
    text = (ROOT / "compose.yaml").read_text()
    example = text.partition("docker compose up")[0]
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert {"FARM_SECRET_KEY", "FARM_API_KEYS", "FARM_REDIS_PASSWORD", "MINIO_ROOT_PASSWORD"} == required
    assert [name for name in required if name not in example] == []
    for service in compose()["services"].values():
        secrets = {key: value for key, value in service.get("environment", {}).items() if "PASSWORD" in key}
        assert [key for key, value in secrets.items() if not value.startswith("${")] == []


def test_compose_should_name_only_what_it_has() -> None:
    loaded = compose()
    for service in loaded["services"].values():
        for volume in service.get("volumes", ()):
            assert volume.split(":")[0] in loaded["volumes"]
        for other in service.get("depends_on", ()):
            assert other in loaded["services"]
        for secret in service.get("secrets", ()):
            assert secret in loaded["secrets"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_compose_should_give_the_farm_a_key_that_only_its_maker_can_read(tmp_path: Path) -> None:
    shell, switches, script = compose()["services"]["owner"]["entrypoint"]
    for directory in ("run/secrets", "keys", "store"):
        (tmp_path / directory).mkdir(parents=True)
    made = tmp_path / "run" / "secrets" / "webhook_key"
    made.write_text("key")
    made.chmod(0o600)
    script = re.sub(r" /(run|keys|store)\b", rf" {tmp_path}/\1", script)
    subprocess.run([shell, switches, script], check=True, timeout=20)
    given = (tmp_path / "keys" / "webhook.pem").stat()
    assert (given.st_uid, given.st_mode & 0o777) == (10001, 0o400)
    assert (tmp_path / "store").stat().st_uid == 10001
    for name in ("api", *WORKERS):
        service = compose()["services"][name]
        assert service["environment"]["FARM_WEBHOOK_KEY"] == "/keys/webhook.pem"
        assert "keys:/keys:ro" in service["volumes"]
        assert service["depends_on"]["owner"]["condition"] == "service_completed_successfully"


def test_recorded_pages_should_reach_the_meeting_and_the_storage_and_nothing_else_of_compose() -> None:
    loaded = compose()
    (network,) = loaded["networks"]["default"]["ipam"]["config"]
    for name in ("api", *WORKERS):
        rule = parse_address_rule(loaded["services"][name]["environment"]["FARM_ALLOW_PRIVATE_ADDRESSES"])
        allowed = {address for address in ip_network(network["subnet"]) if rule.is_allowed(address)}
        assert allowed == {address_of(loaded["services"][each]) for each in ("api", "minio")}
        # Nobody else may be given one of these.
        assert not any(address in ip_network(network["ip_range"]) for address in allowed)


def address_of(service: dict[str, Any]) -> IPv4Address:
    return IPv4Address(service["networks"]["default"]["ipv4_address"])


def test_redis_of_compose_should_require_a_password_that_no_command_line_shows(tmp_path: Path) -> None:
    services = compose()["services"]
    redis = services["redis"]
    assert "command" not in redis
    assert redis["environment"]["REDISCLI_AUTH"].startswith("${FARM_REDIS_PASSWORD:?")
    for name in ("api", *WORKERS):
        url = services[name]["environment"]["FARM_REDIS_URL"]
        assert url == "redis://:${FARM_REDIS_PASSWORD}@redis:6379/0"

    shell, switches, script = redis["entrypoint"]
    (tmp_path / "data").mkdir()
    port, password = free_port(), "hunter2" * 8
    script = script.replace("$$", "$").replace("/data", f"{tmp_path}/data --port {port} --bind 127.0.0.1")
    server = subprocess.Popen(
        [shell, switches, script], env=os.environ | {"REDISCLI_AUTH": password}, stdout=subprocess.DEVNULL
    )
    try:
        client = Redis(port=port, password=password, retry=Retry(ConstantBackoff(0.05), 100))
        assert client.ping()
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.close()
        with pytest.raises(AuthenticationError), Redis(port=port) as stranger:
            stranger.ping()
        # The shell has become the server: Docker's SIGTERM reaches it.
        command_line = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        assert command_line.startswith(b"redis-server")
        assert password.encode() not in command_line
    finally:
        server.terminate()
        assert server.wait(10) == 0


@pytest.mark.parametrize("name", ["api", *WORKERS, "redis", "minio"])
def test_each_service_of_compose_should_be_bounded(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["pids_limit"] > 0
    # Swap would be memory beyond the limit.
    assert service["memswap_limit"] == service["mem_limit"]
    (temporary,) = service["tmpfs"]
    assert re.fullmatch(r"/tmp:size=\d+[gm](,mode=1777)?", temporary)


def test_stages_of_compose_should_fit_the_memory_of_their_worker() -> None:
    for name in WORKERS:
        service = compose()["services"][name]
        (slots,) = re.findall(r"\d+", service["environment"]["FARM_SLOTS"])
        stages = int(slots) * Settings(stage_memory=service["environment"]["FARM_STAGE_MEMORY"]).stage_memory
        assert stages + 2**30 <= int(service["mem_limit"].removesuffix("g")) * 2**30


@pytest.mark.parametrize("name", ["api", *WORKERS])
def test_parts_of_compose_should_be_confined_and_set_up(name: str) -> None:
    service = compose()["services"][name]
    assert "seccomp=deploy/seccomp.json" in service["security_opt"]
    assert "privileged" not in service
    environment = service["environment"]
    assert set(environment) <= {f"FARM_{field.upper()}" for field in Settings.model_fields}
    values = {key: value for key, value in environment.items() if not value.startswith("${")}
    Settings.model_validate({key.removeprefix("FARM_").lower(): value for key, value in values.items()})
    if name != "api":
        drain, grace = int(environment["FARM_DRAIN_SECONDS"]), service["stop_grace_period"]
        assert int(grace.removesuffix("m")) * 60 >= drain + STOP_TIMEOUT
        # As docs/operations.md has it: 1 GiB, and 256 MiB for each slot.
        assert int(service["shm_size"].removesuffix("gb")) >= 2
