"""The format of the log of a process: one JSON object a line, or text on a terminal.

The farm's modules log through `logging`. Each line has the values that are bound to its context (`about`), so
the lines of one recording can be found in all processes: API, recorder, cut, transfers and webhooks.
"""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO
from uuid import UUID

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from recording_farm.farm.config.settings import LogFormat, LogLevel, load_settings
from recording_farm.farm.errors import SettingsError
from recording_farm.farm.notice import NOTICE

_OWN: Final = ("recording_farm", "chaos")
"""The packages whose INFO is logged. That of libraries is not: some log what they send and receive."""

_LEVELS: Final = {
    LogLevel.INFO: logging.INFO,
    LogLevel.NOTICE: NOTICE,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


def set_up_logs_from_environment() -> None:
    """Write the log as the settings say. With bad settings, which the command reports, use the defaults."""
    try:
        settings = load_settings()
    except SettingsError:
        set_up_logs(LogFormat.AUTO, LogLevel.NOTICE)
    else:
        set_up_logs(settings.log_format, settings.log_level)


def set_up_logs(log_format: LogFormat, level: LogLevel) -> None:
    """Write the log of this process and its forks to standard error."""
    as_text = log_format is LogFormat.TEXT or (log_format is LogFormat.AUTO and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(_LEVELS[level])
    handler.setFormatter(formatter(as_text=as_text, colors=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for package in _OWN:
        # The log of a recording has INFO at every level (`farm.telemetry.recording_log`).
        logging.getLogger(package).setLevel(logging.INFO)


def formatter(*, as_text: bool, colors: bool = False) -> logging.Formatter:
    """The formatter of log lines, with the values that are bound to the context."""
    # Tracebacks never show the values of variables: some are secrets.
    last: list[Processor] = (
        [
            _printable,
            structlog.dev.ConsoleRenderer(
                colors=colors, exception_formatter=_print_traceback, pad_event_to=0
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
    """Bind the id of a recording to all lines that are logged meanwhile."""
    with structlog.contextvars.bound_contextvars(recording=str(recording_id), **more):
        yield


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape control characters, which a page's or a client's text may have, for the terminal."""
    event["event"] = str(event["event"])
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = escaped(value)
    return event


def _print_traceback(output: TextIO, exception: ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exception)
    output.write("\n".join(escaped(line) for line in text.getvalue().split("\n")))


class LineFormatter(logging.Formatter):
    """A formatter of files that people print on terminals: one line a record, tracebacks apart."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`; another formatter may have left its traceback in `record`."""
        own = logging.makeLogRecord(record.__dict__)
        own.exc_text = None
        return super().format(own)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        """The line, with its control characters escaped."""
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name in logging
        """The traceback, with the control characters of its lines escaped."""
        return "\n".join(escaped(line) for line in super().formatException(ei).split("\n"))


def escaped(text: str) -> str:
    """Text as one line in which control characters are shown as in Python's source."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
