"""Log lines: for people on a terminal, JSON otherwise. Everything goes to stderr."""

from __future__ import annotations

import logging
import sys
import traceback

import structlog

TRACE_FRAMES = 8


def trace_of(error: Exception) -> str:
    """Where an error came from, in a few lines: whoever provokes errors must not fill the disk with them."""
    return "".join(traceback.format_exception(error, limit=-TRACE_FRAMES))[-4000:]


class _Told(logging.Handler):
    """What the SDK logs, which knows nothing of structlog, in the lines of everything else."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        log.log(record.levelno, record.name.replace(".", "_"), message=record.getMessage())


def configure_logs(level: str = "info") -> None:
    sdk = logging.getLogger("trine")
    sdk.handlers = [_Told()]
    sdk.propagate = False
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
