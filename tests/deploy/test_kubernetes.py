"""Kubernetes accepts the manifests, and they keep the farm's promises."""

import re
import shutil
import subprocess
import textwrap
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal

import kubernetes_validate
import pytest
import yaml
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from recording_farm.api.server import SHUTDOWN_SECONDS
from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.browser_bot.stage.browser import MIN_SHARED_MEMORY
from recording_farm.farm.config.settings import Settings

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy" / "kubernetes" / "base"
OVERLAY = ROOT / "deploy" / "kubernetes" / "overlays" / "example"

Manifest = dict[str, Any]

OTHERS = {"ScaledObject": "keda.sh/v1alpha1", "PodMonitor": "monitoring.coreos.com/v1"}
"""Kinds that are not Kubernetes' own: the validator has no schema for them."""


def manifests(directory: Path = BASE) -> list[Manifest]:
    """The resources of a kustomization that lie in its own directory."""
    return [
        manifest
        for resource in kustomization(directory)["resources"]
        if (directory / resource).is_file()
        for manifest in yaml.safe_load_all((directory / resource).read_text())
    ]


def kustomization(directory: Path) -> Manifest:
    loaded: Manifest = yaml.safe_load((directory / "kustomization.yaml").read_text())
    return loaded


def named(kind: str, name: str) -> Manifest:
    (found,) = [each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("directory", [BASE, OVERLAY], ids=["base", "overlay"])
def test_every_file_should_be_part_of_its_kustomization(directory: Path) -> None:
    loaded = kustomization(directory)
    patches = {patch["path"] for patch in loaded.get("patches", ()) if "path" in patch}
    assert {path.name for path in directory.iterdir()} == {
        "kustomization.yaml",
        *(name for name in loaded["resources"] if name != "../../base"),
        *patches,
    }


@pytest.mark.parametrize(
    "manifest",
    [*manifests(), *manifests(OVERLAY)],
    ids=lambda each: f"{each['kind']}-{each['metadata']['name']}",
)
def test_manifest_should_fit_its_schema(manifest: Manifest) -> None:
    if manifest["kind"] in OTHERS:
        assert manifest["apiVersion"] == OTHERS[manifest["kind"]]
        return
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_worker_should_wait_for_its_recordings_before_it_ends() -> None:
    pod = named("StatefulSet", "worker")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    drain = int(environment["FARM_DRAIN_SECONDS"])
    assert Settings(drain_seconds=drain).drain_seconds == drain
    assert pod["terminationGracePeriodSeconds"] >= drain + 600


def test_api_should_serve_until_it_gets_no_more_requests() -> None:
    pod = named("Deployment", "api")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    program, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert int(seconds) >= 5
    assert pod["terminationGracePeriodSeconds"] > int(seconds) + SHUTDOWN_SECONDS


def test_spool_should_outlive_its_pod() -> None:
    worker = named("StatefulSet", "worker")["spec"]
    (claim,) = worker["volumeClaimTemplates"]
    (container,) = worker["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == "/data"
    assert set(worker["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}


@pytest.mark.parametrize(("kind", "name"), [("StatefulSet", "worker"), ("Deployment", "api")])
def test_pods_should_have_no_more_rights_than_they_need(kind: str, name: str) -> None:
    pod = named(kind, name)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert "privileged" not in context


def test_namespace_should_refuse_pods_with_more_rights() -> None:
    labels = named("Namespace", "recording-farm")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(("kind", "name"), [("StatefulSet", "worker"), ("Deployment", "api")])
def test_pods_should_be_admitted_by_the_restricted_standard(kind: str, name: str) -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/: what the tests above leave out.
    pod = named(kind, name)["spec"]["template"]["spec"]
    assert pod["securityContext"]["seccompProfile"]["type"] in {"RuntimeDefault", "Localhost"}
    assert pod["securityContext"]["runAsUser"] != 0
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    allowed = {"configMap", "emptyDir", "secret", "persistentVolumeClaim"}
    assert {key for volume in pod["volumes"] for key in volume if key != "name"} <= allowed


@pytest.mark.parametrize(("kind", "name"), [("StatefulSet", "worker"), ("Deployment", "api")])
def test_pods_should_be_bounded_in_memory_and_disk(kind: str, name: str) -> None:
    pod = named(kind, name)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    limits = container["resources"]["limits"]
    on_disk = [
        volume["emptyDir"]["sizeLimit"]
        for volume in pod["volumes"]
        if "emptyDir" in volume and volume["emptyDir"].get("medium") != "Memory"
    ]
    # Kubernetes counts these volumes: with less, the pod would be evicted before its volumes are full.
    assert gibibytes(limits["ephemeral-storage"]) > sum(map(gibibytes, on_disk))
    assert "memory" in limits


def gibibytes(quantity: str) -> float:
    return int(quantity[:-2]) / {"Gi": 1, "Mi": 1024}[quantity[-2:]]


def test_stages_of_a_pod_should_fit_its_memory() -> None:
    (container,) = named("StatefulSet", "worker")["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    stage = Settings(stage_memory=environment["FARM_STAGE_MEMORY"]).stage_memory
    # 1 GiB for the node itself (docs/operations.md, Sizing).
    assert int(environment["FARM_SLOTS"]) * stage / 2**30 + 1 <= gibibytes(
        container["resources"]["limits"]["memory"]
    )


def test_settings_should_exist() -> None:
    known = {f"FARM_{name.upper()}" for name in Settings.model_fields}
    used = set(named("ConfigMap", "recording-farm")["data"])
    for kind, name in (("StatefulSet", "worker"), ("Deployment", "api")):
        for container in named(kind, name)["spec"]["template"]["spec"]["containers"]:
            used |= {entry["name"] for entry in container.get("env", ())}
    assert used - known == set()
    # Behind an ingress all clients would have one address, and one of them could lock out the others.
    assert Settings(trusted_proxies=named("ConfigMap", "recording-farm")["data"]["FARM_TRUSTED_PROXIES"])


def test_each_part_should_get_only_the_secrets_that_it_needs() -> None:
    given = {}
    for kind, name in (("StatefulSet", "worker"), ("Deployment", "api")):
        (container,) = named(kind, name)["spec"]["template"]["spec"]["containers"]
        # All of a secret at once would put its files into the environment as well.
        assert [source.keys() for source in container["envFrom"]] == [{"configMapRef"}]
        of_secret = [entry for entry in container["env"] if "secretKeyRef" in entry.get("valueFrom", ())]
        assert all(entry["valueFrom"]["secretKeyRef"]["key"] == entry["name"] for entry in of_secret)
        given[name] = {entry["name"] for entry in of_secret}
    assert "FARM_API_KEYS" in given["api"] - given["worker"]
    both = {"FARM_REDIS_URL", "FARM_SECRET_KEY", "FARM_METRICS_TOKEN", "FARM_STORE_SECRET"}
    assert both <= given["api"] & given["worker"]
    # None of Settings' secrets is forgotten.
    secret = {f"FARM_{name.upper()}" for name, field in Settings.model_fields.items() if is_secret(field)}
    assert secret <= given["api"] | given["worker"]


def is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)


def test_worker_should_not_reach_the_inside_of_the_cluster() -> None:
    assert named("NetworkPolicy", "nothing")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    rules = named("NetworkPolicy", "outside")["spec"]["egress"]
    blocks = [to["ipBlock"] for rule in rules for to in rule["to"] if "ipBlock" in to]
    # What the farm's own rule of addresses calls private is closed here as well.
    inside = [
        "10.1.2.3", "172.20.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.0.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "fd00::1", "fe80::1", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
        "ff02::1",
    ]  # fmt: skip
    for text in inside:
        assert not AddressRule().is_allowed(ip_address(text))
        assert not any(allows(block, text) for block in blocks), text
    for text in ("93.184.216.34", "2606:2800:220:1::1"):
        assert any(allows(block, text) for block in blocks)
    inner = [to for rule in rules for to in rule["to"] if "ipBlock" not in to]
    assert all("podSelector" in to for to in inner)


def test_egress_to_a_pod_of_the_namespace_should_have_a_matching_ingress() -> None:
    policies = [each["spec"] for each in manifests() if each["kind"] == "NetworkPolicy"]
    wanted = {
        (source, target, port["port"])
        for policy in policies
        for rule in policy.get("egress", ())
        for to in rule["to"]
        if to.keys() == {"podSelector"}
        for source in pods_of(policy["podSelector"])
        for target in pods_of(to["podSelector"])
        for port in rule["ports"]
    }
    let_in = {
        (source, target, port["port"])
        for policy in policies
        for rule in policy.get("ingress", ())
        for each in rule.get("from", ())
        if each.keys() == {"podSelector"}
        for source in pods_of(each["podSelector"])
        for target in pods_of(policy["podSelector"])
        for port in rule["ports"]
    }
    assert {("api", "redis", 6379), ("worker", "redis", 26379), ("redis", "redis", 6379)} <= wanted
    assert wanted == let_in


def pods_of(selector: Manifest) -> list[str]:
    """The names of the pods that a policy chooses."""
    names = [selector["matchLabels"]["app.kubernetes.io/name"]] if "matchLabels" in selector else []
    for expression in selector.get("matchExpressions", ()):
        assert (expression["key"], expression["operator"]) == ("app.kubernetes.io/name", "In")
        names += expression["values"]
    return names


def allows(block: Manifest, text: str) -> bool:
    address = ip_address(text)
    networks = [ip_network(each) for each in block["except"]]
    inside = [network for network in networks if network.version == address.version and address in network]
    whole = ip_network(block["cidr"])
    return whole.version == address.version and address in whole and not inside


def test_scaler_should_scale_the_workers_by_queue_and_load() -> None:
    spec = named("ScaledObject", "worker")["spec"]
    target = spec["scaleTargetRef"]
    assert named(target["kind"], target["name"])["apiVersion"] == target["apiVersion"]
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    assert {trigger["name"] for trigger in spec["triggers"]} == {"load", "queue"}
    for trigger in spec["triggers"]:
        assert trigger["type"] == "prometheus"
        assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold", "ignoreNullValues"}
        # What is missing is not nothing: the farm must not shrink because Prometheus or the API is away.
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert float(trigger["metadata"]["threshold"]) > 0
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    # KEDA says how many there are; a number here would be put back with each `kubectl apply`.
    assert "replicas" not in named("StatefulSet", "worker")["spec"]


class Keda(BaseModel):
    """The fields of KEDA's reference that are used here; any other is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Target(Keda):
    """Of `scaleTargetRef`."""

    name: str
    kind: str = "Deployment"
    api_version: str = "apps/v1"


class Fallback(Keda):
    """Of `fallback`."""

    failure_threshold: int
    replicas: int
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"] = (
        "static"
    )


class Autoscaler(Keda):
    """Of `horizontalPodAutoscalerConfig`; its behavior is Kubernetes' own."""

    behavior: dict[str, Any]


class Advanced(Keda):
    """Of `advanced`."""

    horizontal_pod_autoscaler_config: Autoscaler


class Trigger(Keda):
    """Of `triggers`; everything in a scaler's metadata is text."""

    type: str
    name: str
    metadata: dict[str, str]


class ScaledObject(Keda):
    """Of `spec`."""

    scale_target_ref: Target
    min_replica_count: int
    max_replica_count: int
    polling_interval: int
    cooldown_period: int
    fallback: Fallback
    advanced: Advanced
    triggers: list[Trigger]


def test_scaler_should_fit_the_reference_of_keda() -> None:
    spec = named("ScaledObject", "worker")["spec"]
    ScaledObject.model_validate(spec)
    # How fast it goes up and down is handed on to Kubernetes' own autoscaler as it is.
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "worker"},
        "spec": {
            "scaleTargetRef": spec["scaleTargetRef"],
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }
    kubernetes_validate.validate(scaler, kubernetes_validate.latest_version(), strict=True)


def test_prometheus_should_find_api_and_workers_as_the_docs_say() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    (example,) = re.findall(r"\n( {8}scrape_configs:\n(?: {8}.*\n)+)", text)
    (job,) = yaml.safe_load(textwrap.dedent(example))["scrape_configs"]
    (search,) = job["kubernetes_sd_configs"]
    assert search["namespaces"]["names"] == [named("Namespace", "recording-farm")["metadata"]["name"]]
    kept = {rule["source_labels"][0]: rule["regex"] for rule in job["relabel_configs"] if "regex" in rule}
    names = kept["__meta_kubernetes_pod_label_app_kubernetes_io_name"]
    ports = kept["__meta_kubernetes_pod_container_port_name"]
    for kind, name in (("StatefulSet", "worker"), ("Deployment", "api")):
        pod = named(kind, name)["spec"]["template"]
        assert re.fullmatch(names, pod["metadata"]["labels"]["app.kubernetes.io/name"])
        (port,) = pod["spec"]["containers"][0]["ports"]
        assert re.fullmatch(ports, port["name"])


def test_budgets_should_select_pods_that_exist() -> None:
    for name in ("api", "worker"):
        budget = named("PodDisruptionBudget", name)["spec"]
        kind = "StatefulSet" if name == "worker" else "Deployment"
        labels = named(kind, name)["spec"]["template"]["metadata"]["labels"]
        assert budget["selector"]["matchLabels"].items() <= labels.items()
        assert budget["maxUnavailable"] == 1


class Secret(Keda):
    """Of `credentials`."""

    name: str
    key: str


class Authorization(Keda):
    """Of an endpoint; its type is Bearer by default."""

    credentials: Secret


class Endpoint(Keda):
    """Of `podMetricsEndpoints`."""

    port: str
    path: str
    authorization: Authorization


class PodMonitor(Keda):
    """Of the `spec` of a monitor of the Prometheus operator."""

    selector: dict[str, Any]
    pod_metrics_endpoints: list[Endpoint]


def in_overlay(kind: str) -> Manifest:
    (found,) = [each for each in manifests(OVERLAY) if each["kind"] == kind]
    return found


def test_monitor_should_read_each_part_with_the_token_that_it_has() -> None:
    monitor = PodMonitor.model_validate(in_overlay("PodMonitor")["spec"])
    assert {"api", "worker"} == set(pods_of(monitor.selector))
    ports = {}
    for kind, name in (("StatefulSet", "worker"), ("Deployment", "api")):
        (container,) = named(kind, name)["spec"]["template"]["spec"]["containers"]
        (port,) = container["ports"]
        ports[port["name"]] = {
            entry["name"]: (
                entry["valueFrom"]["secretKeyRef"]["name"],
                entry["valueFrom"]["secretKeyRef"]["key"],
            )
            for entry in container["env"]
            if "secretKeyRef" in entry.get("valueFrom", ())
        }
    assert {endpoint.port for endpoint in monitor.pod_metrics_endpoints} == ports.keys()
    for endpoint in monitor.pod_metrics_endpoints:
        secret = endpoint.authorization.credentials
        assert ports[endpoint.port]["FARM_METRICS_TOKEN"] == (secret.name, secret.key)


def test_ingress_should_lead_to_the_api_at_its_public_host() -> None:
    ingress = in_overlay("Ingress")["spec"]
    (rule,) = ingress["rules"]
    (path,) = rule["http"]["paths"]
    service = path["backend"]["service"]
    assert service["port"]["name"] in {
        port["name"] for port in named("Service", service["name"])["spec"]["ports"]
    }
    settings = yaml.safe_load((OVERLAY / "settings.yaml").read_text())["data"]
    assert settings["FARM_PUBLIC_URL"] == f"https://{rule['host']}"
    assert ingress["tls"][0]["hosts"] == [rule["host"]]


def test_overlay_should_replace_several_nodes_at_a_time() -> None:
    upgrade = yaml.safe_load((OVERLAY / "upgrade.yaml").read_text())
    strategy = upgrade["spec"]["updateStrategy"]
    assert strategy["type"] == "RollingUpdate"
    assert strategy["rollingUpdate"]["maxUnavailable"].endswith("%")
    # Otherwise Kubernetes waits for each new pod before it replaces the next.
    assert named(upgrade["kind"], upgrade["metadata"]["name"])["spec"]["podManagementPolicy"] == "Parallel"


def test_shared_memory_should_be_what_the_docs_say() -> None:
    pod = named("StatefulSet", "worker")["spec"]["template"]["spec"]
    (slots,) = [entry["value"] for entry in pod["containers"][0]["env"] if entry["name"] == "FARM_SLOTS"]
    (size,) = [
        volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if volume["name"] == "shared-memory"
    ]
    assert "1 GiB and 256 MiB for each slot" in " ".join(
        (ROOT / "docs" / "operations.md").read_text().split()
    )
    assert int(size.removesuffix("Gi")) << 30 >= MIN_SHARED_MEMORY + (256 << 20) * int(slots)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("directory", [BASE, OVERLAY], ids=["base", "overlay"])
def test_kustomize_should_build_it(directory: Path) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(directory)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    own = [] if directory == BASE else manifests(directory)
    assert len(built) == len(manifests()) + len(own)
    for manifest in built:
        if manifest["kind"] not in OTHERS:
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
