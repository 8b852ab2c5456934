"""The values of metrics, as Prometheus reads them."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from recording_farm.farm.telemetry.metrics import (
    FarmCollector,
    NodeCollector,
)


def shown(collector: FarmCollector | NodeCollector) -> dict[tuple[str, ...], float]:
    """What a collector shows; see `values_of`."""
    registry = CollectorRegistry()
    registry.register(collector)
    return values_of(generate_latest(registry).decode())


def values_of(text: str) -> dict[tuple[str, ...], float]:
    """The values by the metrics' names and the labels' values, these in the order of the labels' names."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
