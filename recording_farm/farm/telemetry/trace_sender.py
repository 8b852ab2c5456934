"""Sends recordings' traces (`farm.telemetry.traces`) with OpenTelemetry's SDK (the extra `otel`)."""

from datetime import UTC, datetime, timedelta
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import StatusCode, Tracer

from recording_farm.farm.recording.model import Recording
from recording_farm.farm.telemetry.spans import Span, spans_of

_FLUSH_MILLISECONDS: Final = 5000
"""How long a process that ends waits until its last spans are sent."""


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TraceSender:
    """Sends traces, beside whatever else its process does."""

    def __init__(self, node: str, processor: SpanProcessor) -> None:
        """Send as `node`, through `processor`."""
        self._ids = _RecordingIds()
        self._provider = TracerProvider(
            resource=_resource(node),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)

    def send(self, recording: Recording) -> None:
        """Have the trace of a recording that has ended sent; it does not wait for that."""
        tracer = self._provider.get_tracer("recording-farm")
        whole, parts = spans_of(recording)
        self._ids.trace_id = recording.id.int
        root = _begun(tracer, whole, Context())
        inside = trace.set_span_in_context(root, Context())
        for part in parts:
            _begun(tracer, part, inside).end(_ns(part.end))
        root.end(_ns(whole.end))

    def close(self) -> None:
        """Send what is not sent yet, for a few seconds at most."""
        self._provider.force_flush(_FLUSH_MILLISECONDS)
        self._provider.shutdown()


class _RecordingIds(RandomIdGenerator):
    """Ids of spans by chance; that of the trace is the recording's."""

    trace_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id


def _resource(node: str) -> Resource:
    """Who sends: the node of the farm, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise."""
    # Not `create` alone: what it is given counts more than the variables.
    ours = {"service.name": "recording-farm", "service.instance.id": node}
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def otlp_processor() -> SpanProcessor:
    """Sends in a thread of its own, by OTLP over HTTP, to where OpenTelemetry's variables say."""
    return BatchSpanProcessor(OTLPSpanExporter())


def _begun(tracer: Tracer, span: Span, parent: Context) -> trace.Span:
    begun = tracer.start_span(
        span.name, context=parent, attributes=dict(span.attributes), start_time=_ns(span.begin)
    )
    for name, moment, attributes in span.events:
        begun.add_event(name, dict(attributes), _ns(moment))
    if span.failed:
        begun.set_status(StatusCode.ERROR)
    return begun


def _ns(moment: datetime) -> int:
    """Nanoseconds since 1970; as a float some would be lost."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
