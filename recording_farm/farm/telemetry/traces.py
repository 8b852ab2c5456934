"""One OpenTelemetry trace for each recording, from when it was asked for to its end.

The trace is made of the record when the recording has ended: its timeline has all that happened, on whatever
node, with its time. So nothing has to be carried from process to process, and a recording that nobody traces
costs nothing. The trace's id is the recording's (both have 128 bits): who knows one finds the other.

It needs the extra `otel` and is sent where OpenTelemetry's own variables say, OTEL_EXPORTER_OTLP_ENDPOINT or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT; without one of these there is none. The others of its SDK count as well,
but for the protocol: it is HTTP with protobuf.
"""

import logging
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from recording_farm.farm.telemetry.trace_sender import TraceSender

logger = logging.getLogger(__name__)

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"


def open_sender(node: str) -> "TraceSender | None":
    """What sends traces to where OpenTelemetry's variables say; None if they say nothing.

    Call it in the process that sends, after its fork: the sender has a thread.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        from recording_farm.farm.telemetry.trace_sender import TraceSender, otlp_processor
    except ImportError:
        logger.warning("no traces are sent: the extra recording-farm[otel] is not installed")
        return None
    protocol = next((value for name in _PROTOCOLS if (value := os.environ.get(name))), _PROTOCOL)
    if protocol != _PROTOCOL:
        logger.warning("traces are sent by %s: %s is asked for, which the farm cannot", _PROTOCOL, protocol)
    return TraceSender(node, otlp_processor())
