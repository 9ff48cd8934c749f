"""Structured logs and metrics. Neither ever holds an embedding, an image or a secret."""

import faulthandler
import logging
import os
import re
import sys
import threading
import time
import traceback
from pathlib import Path

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable: `serve` sets it before it starts several processes; prometheus-client reads it."""

NO_DESCRIPTORS = "no file descriptor is free, so new connections wait; raise the limit (ulimit -n)"
SECONDS_BETWEEN = 10.0
"""The pause between two lines about missing file descriptors."""
_PLACES = 12
_NATIVE_LINE_BYTES = 200
_GAUGE_FILE = re.compile(r"gauge_live\w*_(\d+)\.db")  # as prometheus-client names them; the number is a process id
_registry = CollectorRegistry()
REQUESTS = Counter("face_identity_requests", "Answered requests.", ["method", "route", "status"], registry=_registry)
SEARCH_AUDITED = Counter(
    "face_identity_search_audited_probes",
    "Probes that were searched a second time with the exact plan.",
    ["path"],
    registry=_registry,
)
SEARCH_MISSED = Counter(
    "face_identity_search_missed_matches", "Matches that only the exact plan returned.", ["path"], registry=_registry
)
REQUEST_SECONDS = Histogram(
    "face_identity_request_seconds",
    "Seconds from the request head to the end of the response.",
    ["method", "route"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60),
    registry=_registry,
)
IMAGES_RUNNING = Gauge(
    "face_identity_images_running",
    "Images in progress in the threads of the encoders.",
    multiprocess_mode="livesum",
    registry=_registry,
)
IMAGES_WAITING = Gauge(
    "face_identity_images_waiting", "Images that wait for a thread.", multiprocess_mode="livesum", registry=_registry
)
IMAGES_REFUSED = Counter("face_identity_images_refused", "Images that were refused under overload.", registry=_registry)
IMAGES_ENCODED = Counter("face_identity_images_encoded", "Images whose faces were embedded.", registry=_registry)
FACES_ENCODED = Counter("face_identity_faces_encoded", "Embedded faces.", registry=_registry)
STAGE_SECONDS = Counter(
    "face_identity_image_stage_seconds",
    "Thread seconds of images, by stage: decode, detect, align, embed.",
    ["stage"],
    registry=_registry,
)


class LibraryLogs(logging.Handler):
    """Writes warnings of libraries (asyncio, uvicorn, psycopg, procrastinate) as structured lines.

    They log with Python's `logging`, which prints plain text and whole tracebacks. A line has the message of the
    library, and for an error its class and its places, never its text, which may hold input of a client.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told_at = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line. asyncio tries to accept thousands of connections at once, so its complaint is told once."""
        message = record.getMessage()
        if record.name == "asyncio" and "socket.accept() out of system resource" in message:
            if time.monotonic() - self._told_at < SECONDS_BETWEEN:
                return
            self._told_at = time.monotonic()
            message = NO_DESCRIPTORS
        if record.name == "asyncio":
            message = message.partition("\n")[0]  # the lines below show tasks with the text of their errors
        log = structlog.get_logger(room="library", library=record.name)
        log.log(record.levelno, message.strip(), **_error_of(record))


def _error_of(record: logging.LogRecord) -> dict[str, object]:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)[-_PLACES:]
    return {
        "kind": type(error).__qualname__,
        "places": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _structure_library_logs() -> None:
    root = logging.getLogger()
    if not any(isinstance(handler, LibraryLogs) for handler in root.handlers):
        root.addHandler(LibraryLogs())


def structure_native_lines() -> None:
    """Write what libraries in C print to standard error as structured lines, from now on in this process.

    libjpeg, for example, prints a bare line for each damaged image, which readers of a JSON log cannot parse. File
    descriptor 2 becomes a pipe that a thread reads, and Python's own `sys.stderr` keeps the former target. A full pipe
    takes no more, because a library that waited for the thread while it holds the interpreter lock would wait for ever.
    A terminal is left as it is.
    """
    if sys.platform == "win32" or sys.stderr.isatty():
        return
    kept = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.dup2(writing, 2)
    os.close(writing)
    sys.stderr = kept
    faulthandler.enable(kept)  # a crash does not wait for the thread
    threading.Thread(target=_log_native_lines, args=(reading,), name="native-lines", daemon=True).start()


def _log_native_lines(reading: int) -> None:
    with os.fdopen(reading, "rb") as lines:
        while line := lines.readline(_NATIVE_LINE_BYTES):
            text = "".join(
                character if character.isprintable() else "?" for character in line.decode("ascii", "replace")
            )
            if text.strip("? "):
                logger("library").warning("a native library printed a line", text=text.rstrip("? "))


def configure_logging(level: str) -> None:
    """Write log lines of `level` and above to standard error, also for the warnings of libraries.

    The lines are JSON, or text if standard error is a terminal.
    """
    _structure_library_logs()
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # looked up at each call: tests replace it
        cache_logger_on_first_use=False,
    )


def logger(room: str) -> structlog.stdlib.BoundLogger:
    """The logger of one room of the service."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(room=room)
    return bound


def metrics_text() -> bytes:
    """All metrics in the Prometheus text format. If `serve` runs several processes, their values are added up."""
    registry = _registry
    if MULTIPROCESS_FOLDER in os.environ:
        _forget_ended_processes(Path(os.environ[MULTIPROCESS_FOLDER]))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _forget_ended_processes(folder: Path) -> None:
    """Remove the gauges of processes that have ended: a killed process cannot count its images down to zero."""
    names = (_GAUGE_FILE.fullmatch(file.name) for file in folder.iterdir())
    for process in {int(name[1]) for name in names if name is not None}:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]
