"""Structured logs and metrics. Embeddings, images and secrets never enter either."""

import logging
import sys

import structlog


def configure_logging(level: str) -> None:
    """Send structured log lines of `level` and above to standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def logger(room: str) -> structlog.stdlib.BoundLogger:
    """The logger of one room of the service."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(room=room)
    return bound
