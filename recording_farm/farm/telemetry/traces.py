"""One OpenTelemetry trace per recording, from its request to its end.

The trace is built from the record once the recording has ended: its timeline has all events of all nodes with
their times. So no trace context is propagated between processes, and tracing costs nothing when it is off.
The trace id is the recording id (both have 128 bits).

Tracing needs the extra `otel`, and OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. The
SDK's other variables apply too, except for the protocol, which is always HTTP with protobuf.
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
    """A sender to the endpoint of OpenTelemetry's variables; None if there is no endpoint.

    Call it in the process that sends, after its fork: the sender has a thread.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        from recording_farm.farm.telemetry.trace_sender import TraceSender, otlp_processor
    except ImportError:
        logger.warning("traces are not sent: the extra recording-farm[otel] is not installed")
        return None
    protocol = next((value for name in _PROTOCOLS if (value := os.environ.get(name))), _PROTOCOL)
    if protocol != _PROTOCOL:
        logger.warning("traces are sent as %s: %s is not supported", _PROTOCOL, protocol)
    return TraceSender(node, otlp_processor())
