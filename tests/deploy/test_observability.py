"""Dashboard and alerts speak of metrics that there are, and each alert is explained."""

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

from farm.metrics import FarmCollector, NodeCollector
from tests.conftest import settings_with

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
    scaled = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "autoscaling.yaml").read_text())
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


def test_panels_should_not_lie_over_each_other() -> None:
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


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian's prometheus) is not installed"
)
def test_promtool_should_take_the_rules(tmp_path: Path) -> None:
    rules = tmp_path / "all.yaml"
    recorded = [{"record": f"check:{n}", "expr": text} for n, text in enumerate(expressions())]
    rules.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}))
    for file in (ALERTS, rules):
        done = subprocess.run(
            ["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
