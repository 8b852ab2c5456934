"""Dashboard and alerts use metrics that exist, and each alert is explained."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from prometheus_client import CollectorRegistry

from recording_farm.farm.telemetry.metrics import FarmCollector, NodeCollector
from testkit.settings import settings_with

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "recording-farm.json"
OPERATIONS = ROOT / "docs" / "operations.md"


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    for rule in alerts():
        yield rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]
    scaled = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "base" / "autoscaling.yaml").read_text())
    for trigger in scaled["spec"]["triggers"]:
        yield trigger["metadata"]["query"]


@pytest.fixture
def exported(redis_client: redis.Redis, tmp_path: Path) -> dict[str, set[str]]:
    """The metrics as Prometheus names them, and the labels of each."""
    registry = CollectorRegistry()
    registry.register(FarmCollector(redis_client))
    registry.register(NodeCollector(settings_with(tmp_path, None)))
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        labels = set(getattr(family, "_labelnames", ()))
        names = {f"{family.name}_total"} if family.type == "counter" else {family.name}
        if family.type == "histogram":
            names = {f"{family.name}_{suffix}" for suffix in ("bucket", "sum", "count")}
            labels |= {"le"}
        found |= dict.fromkeys(names, labels)
    return found


def test_every_metric_that_is_used_should_exist(exported: dict[str, set[str]]) -> None:
    used = {name for text in expressions() for name in re.findall(r"\bfarm_[a-z_]+", text)}
    assert used - exported.keys() == set()


def test_every_label_that_is_chosen_should_exist(exported: dict[str, set[str]]) -> None:
    for text in expressions():
        for name, labels in re.findall(r"\b(farm_[a-z_]+)\{([^}]*)\}", text):
            assert set(re.findall(r"(\w+)\s*[=!]", labels)) <= exported[name], text


def test_every_metric_should_be_on_the_dashboard_or_explained(exported: dict[str, set[str]]) -> None:
    documented = OPERATIONS.read_text()
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported}
    assert [name for name in sorted(bare) if f"`{name}`" not in documented] == []


def test_every_alert_should_have_a_section_that_says_what_to_do() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    sections = re.findall(r"^### (Farm\w+)$", OPERATIONS.read_text(), re.MULTILINE)
    assert sections == names


def test_every_alert_should_link_to_its_section() -> None:
    headings = re.findall(r"^#+ (.+)$", OPERATIONS.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for rule in alerts():
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert ROOT / page == OPERATIONS
        assert anchor == rule["alert"].lower()
        assert anchor in anchors


def test_every_panel_should_say_what_it_shows() -> None:
    assert [panel["title"] for panel in panels() if not panel.get("description")] == []


def test_panels_of_nodes_should_show_the_chosen_ones() -> None:
    (variable,) = [
        each for each in json.loads(DASHBOARD.read_text())["templating"]["list"] if each["name"] == "node"
    ]
    assert variable["includeAll"]
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    of_nodes = [text for text in shown if re.search(r"\bfarm_(node_|slots|recording_memory)", text)]
    assert len(of_nodes) > 3
    assert [text for text in of_nodes if 'node=~"$node"' not in text] == []


def test_panels_should_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    assert len(numbers) == len(set(numbers))


WITH_PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian's prometheus) is not installed"
)

ERRORED = 'farm_recordings_ended_total{status="ERRORED",reason="INTERNAL_ERROR",error="recording_failed"}'
HEALTHY = {
    'farm_redis_up{instance="a"}': "1x120",
    "farm_redis_writable": "1x120",
    "farm_redis_may_evict": "0x120",
    "farm_redis_evicted_keys_total": "0x120",
    "farm_redis_memory_bytes": "50000000x120",
    "farm_redis_memory_limit_bytes": "0x60 100000000x60",
    'farm_nodes{state="alive"}': "2x120",
    'farm_nodes{state="no_room",reason="disk"}': "0x120",
    'farm_nodes{state="no_room",reason="load"}': "0x120",
    'farm_nodes{state="gone"}': "0x120",
    'farm_settings_differ{variable="FARM_SECRET_KEY"}': "0x120",
    "farm_longest_wait_seconds": "0x120",
    "farm_load_ratio": "0.5x120",
    'farm_start_seconds_bucket{le="3.0"}': "0+10x120",
    'farm_start_seconds_bucket{le="20.0"}': "0+10x120",
    'farm_start_seconds_bucket{le="+Inf"}': "0+10x120",
    'farm_finish_seconds_bucket{le="10.0"}': "0+10x120",
    'farm_finish_seconds_bucket{le="3600.0"}': "0+10x120",
    'farm_finish_seconds_bucket{le="+Inf"}': "0+10x120",
    'farm_recordings_ended_total{status="UPLOADED",reason="API_CALL",error=""}': "0+10x120",
    'farm_recordings_ended_total{status="CANCELLED",reason="STOPPED_BEFORE_START",error=""}': "0+30x120",
    ERRORED: "0x120",
    "farm_frames_captured_total": "0+100000x120",
    "farm_frames_lost_total": "0+10x120",
    'farm_encoder_speed_bucket{le="0.95"}': "0x120",
    "farm_encoder_speed_count": "0+10x120",
    'farm_copies_behind{place="store"}': "0x120",
    'farm_copies_behind{place="s3"}': "0x50 1x8 0x60",
    "farm_oldest_unsaved_seconds": "20x120",
    "farm_store_refused": "0x120",
    'farm_transfers_total{place="aws",result="given_up"}': "0x120",
    'farm_webhook_attempts_total{outcome="given_up"}': "0x120",
    'farm_queue_failed{queue="recordings"}': "0x120",
    'farm_node_disk_free_bytes{node="n"}': "9000000000x120",
    'farm_node_disk_reserve_bytes{node="n"}': "2000000000x120",
    'farm_node_memory_free_bytes{node="n"}': "8000000000x120",
    'farm_node_processors_busy_ratio{node="n"}': "0.5x120",
}
"""A farm that needs nobody, for two hours."""

BROKEN = {
    "FarmRedisDown": {'farm_redis_up{instance="a"}': "0x120"},
    "FarmRedisRefuses": {"farm_redis_writable": "0x120"},
    "FarmRedisEvicts": {"farm_redis_evicted_keys_total": "0x100 700x20"},
    "FarmRedisFull": {"farm_redis_memory_bytes": "90000000x120"},
    "FarmMetricsMissing": {'farm_redis_up{instance="a"}': "1x60"},
    "FarmNoNode": {'farm_nodes{state="alive"}': "0x120"},
    "FarmNoRoom": {
        'farm_nodes{state="alive"}': "0x120",
        'farm_nodes{state="no_room",reason="disk"}': "1x120",
    },
    "FarmNodeGone": {'farm_nodes{state="gone"}': "1x120"},
    "FarmSettingsDiffer": {'farm_settings_differ{variable="FARM_SECRET_KEY"}': "1x120"},
    "FarmRecordingsWait": {"farm_longest_wait_seconds": "0+60x120"},
    "FarmFull": {"farm_load_ratio": "1x120"},
    "FarmStartSlow": {'farm_start_seconds_bucket{le="3.0"}': "0+5x120"},
    "FarmRecordingsFail": {ERRORED: "0+1x120"},
    "FarmFramesLost": {"farm_frames_lost_total": "0+200x120"},
    "FarmEncoderSlow": {'farm_encoder_speed_bucket{le="0.95"}': "0+2x120"},
    "FarmCopyBehind": {'farm_copies_behind{place="store"}': "0x90 1x30"},
    "FarmFinishSlow": {'farm_finish_seconds_bucket{le="10.0"}': "0+5x120"},
    "FarmFinishStuck": {"farm_oldest_unsaved_seconds": "0+60x120"},
    "FarmStoreFails": {"farm_store_refused": "0x60 1x60"},
    "FarmTransfersGivenUp": {'farm_transfers_total{place="aws",result="given_up"}': "0x100 1x20"},
    "FarmWebhooksGivenUp": {'farm_webhook_attempts_total{outcome="given_up"}': "0x100 1x20"},
    "FarmJobsFailed": {'farm_queue_failed{queue="recordings"}': "1x120"},
    "FarmDiskLow": {'farm_node_disk_free_bytes{node="n"}': "3000000000x120"},
    "FarmMemoryLow": {'farm_node_memory_free_bytes{node="n"}': "500000000x120"},
    "FarmNodeBusy": {'farm_node_processors_busy_ratio{node="n"}': "0.99x120"},
}
"""What is different for each alert."""


def test_every_alert_should_have_a_case_of_its_own() -> None:
    assert [rule["alert"] for rule in alerts()] == list(BROKEN)
    assert all(set(different) <= set(HEALTHY) for different in BROKEN.values())


@WITH_PROMTOOL
def test_each_alert_should_fire_in_its_case_only(tmp_path: Path) -> None:
    def case(series: dict[str, str], firing: list[str]) -> dict[str, Any]:
        samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in firing]
        expression = 'count by (alertname) (ALERTS{alertstate="firing"})'
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [{"expr": expression, "eval_time": "115m", "exp_samples": samples}],
        }

    tests = [case(HEALTHY, []), *(case(HEALTHY | BROKEN[name], [name]) for name in BROKEN)]
    file = tmp_path / "alerts-test.yaml"
    rules = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(rules))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@WITH_PROMTOOL
def test_promtool_should_accept_the_rules(tmp_path: Path) -> None:
    rules = tmp_path / "all.yaml"
    recorded = [{"record": f"check:{n}", "expr": text} for n, text in enumerate(expressions())]
    rules.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}))
    for file in (ALERTS, rules):
        done = subprocess.run(
            ["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
