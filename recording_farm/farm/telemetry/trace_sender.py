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
"""Time for a process that ends to flush its last spans."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TraceSender:
    """Sends traces in the background."""

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
        """Queue the trace of an ended recording; does not wait until it is sent."""
        tracer = self._provider.get_tracer("recording-farm")
        whole, parts = spans_of(recording)
        self._ids.trace_id = recording.id.int
        root = _start(tracer, whole, Context())
        inside = trace.set_span_in_context(root, Context())
        for part in parts:
            _start(tracer, part, inside).end(_ns(part.end))
        root.end(_ns(whole.end))

    def close(self) -> None:
        """Flush the queue, for a few seconds at most."""
        self._provider.force_flush(_FLUSH_MILLISECONDS)
        self._provider.shutdown()


class _RecordingIds(RandomIdGenerator):
    """Random span ids, with the recording's id as the trace id."""

    trace_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id


def _resource(node: str) -> Resource:
    """This node as the resource; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence."""
    # `create` alone would give its arguments precedence over the variables.
    ours = {"service.name": "recording-farm", "service.instance.id": node}
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def otlp_processor() -> SpanProcessor:
    """Sends in its own thread, by OTLP over HTTP, to the endpoint of OpenTelemetry's variables."""
    return BatchSpanProcessor(OTLPSpanExporter())


def _start(tracer: Tracer, span: Span, parent: Context) -> trace.Span:
    started = tracer.start_span(
        span.name, context=parent, attributes=dict(span.attributes), start_time=_ns(span.begin)
    )
    for name, moment, attributes in span.events:
        started.add_event(name, dict(attributes), _ns(moment))
    if span.failed:
        started.set_status(StatusCode.ERROR)
    return started


def _ns(moment: datetime) -> int:
    """Nanoseconds since 1970, without the rounding of a float."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
