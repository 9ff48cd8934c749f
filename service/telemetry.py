"""Structured logs and metrics. Embeddings, images and secrets never enter either."""

import logging
import os
import sys

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Set by `serve` before it starts several processes; the client library reads it when a metric is made."""

_registry = CollectorRegistry()
REQUESTS = Counter("face_identity_requests", "Requests answered.", ["method", "route", "status"], registry=_registry)
SEARCH_AUDITED = Counter(
    "face_identity_search_audited_probes", "Probes that were searched exactly too.", ["path"], registry=_registry
)
SEARCH_MISSED = Counter(
    "face_identity_search_missed_matches", "Matches that only the exact search named.", ["path"], registry=_registry
)
REQUEST_SECONDS = Histogram(
    "face_identity_request_seconds",
    "From a request's head to the end of its answer.",
    ["method", "route"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60),
    registry=_registry,
)


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
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # whatever it is by then
        cache_logger_on_first_use=False,
    )


def logger(room: str) -> structlog.stdlib.BoundLogger:
    """The logger of one room of the service."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(room=room)
    return bound


def metrics_text() -> bytes:
    """Every metric in Prometheus' text format; of all processes, where `serve` runs several."""
    registry = _registry
    if MULTIPROCESS_FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
