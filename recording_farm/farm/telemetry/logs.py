"""How the log of a process is written: one JSON object a line, or text for people on a terminal.

The farm's modules log through `logging`. What is bound to the context (`about`) goes with every line that is
logged in it, so the lines of one recording can be found in all processes: in the API's, the recorder's and
those of cut, transfers and webhooks.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from recording_farm.farm.config.settings import LogFormat, LogLevel, load_settings
from recording_farm.farm.errors import SettingsError

_OWN: Final = ("recording_farm", "chaos")
"""The packages whose INFO is logged. Libraries' is not: some write down what they send and receive."""

_LEVELS: Final = {
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


def set_up_logs_from_environment() -> None:
    """Write the log as the settings say; if they are bad, which the command tells itself, as by default."""
    try:
        settings = load_settings()
    except SettingsError:
        set_up_logs(LogFormat.AUTO, LogLevel.WARNING)
    else:
        set_up_logs(settings.log_format, settings.log_level)


def set_up_logs(log_format: LogFormat, level: LogLevel) -> None:
    """Write the log of this process, and of those that it forks, to standard error."""
    as_text = log_format is LogFormat.TEXT or (log_format is LogFormat.AUTO and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(_LEVELS[level])
    handler.setFormatter(formatter(as_text=as_text, colors=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for package in _OWN:
        # A recording's own log has it in any case (`farm.telemetry.recording_log`).
        logging.getLogger(package).setLevel(logging.INFO)


def formatter(*, as_text: bool, colors: bool = False) -> logging.Formatter:
    """What makes lines of what is logged, with what is bound to the context."""
    # No traceback shows the values of variables: some are secrets.
    last: list[Processor] = (
        [
            _printable,
            structlog.dev.ConsoleRenderer(
                colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
            ),
        ]
        if as_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


@contextmanager
def about(recording_id: UUID | str, **more: str) -> Iterator[None]:
    """Have all lines that are logged meanwhile tell that they are about a recording."""
    with structlog.contextvars.bound_contextvars(recording=str(recording_id), **more):
        yield


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave no control character of a client's text to the terminal."""
    text = str(event["event"])
    event["event"] = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return event
