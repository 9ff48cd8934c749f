"""How a command fails: one line on standard error without a traceback, and an exit code for each kind of error.

This module is loaded by every command, also by `--help`, so it imports nothing heavy.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from enum import IntEnum

from service.errors import (
    Conflict,
    DatabaseUnavailable,
    EncoderUnavailable,
    InvalidModel,
    InvalidRequest,
    InvalidSettings,
    NotFound,
    ServiceError,
    VideoNotInstalled,
    VideoSourceUnavailable,
)


class ExitCode(IntEnum):
    """The exit codes of every command. A command ended by a signal returns 128 + the number of the signal."""

    DONE = 0
    """Success; for `verify` and `compare`: the faces match."""
    NO = 1
    """`verify` and `compare`: the faces do not match; `demo`: a face was recognized wrongly."""
    USAGE = 2
    """The command line is wrong."""
    PARTLY = 3
    """Partial success; the output names what failed, such as images that `enroll` rejected."""
    UNUSABLE_INPUT = 4
    """An image, embedding, name or file cannot be used; nothing was changed."""
    NOT_FOUND = 5
    """No such tenant, gallery, person, face, key or file."""
    CONFLICT = 6
    """The name is taken, or the embedding spaces differ."""
    UNAVAILABLE = 7
    """The database, an encoder, a model, a setting or a video source cannot be used."""
    FAILED = 8
    """Any other failure; LOGGER_LEVEL=DEBUG shows the traceback."""


_CODE_OF_STATUS = {404: ExitCode.NOT_FOUND, 409: ExitCode.CONFLICT}
_UNAVAILABLE = (
    DatabaseUnavailable,
    EncoderUnavailable,
    InvalidModel,
    InvalidSettings,
    VideoNotInstalled,
    VideoSourceUnavailable,
)
_GENERAL = {NotFound, Conflict, InvalidRequest}
"""Errors printed without their title, because the detail alone says more."""


def exit_code(error: ServiceError) -> ExitCode:
    """The exit code of an error: by its class, else by its HTTP status."""
    if isinstance(error, _UNAVAILABLE):
        return ExitCode.UNAVAILABLE
    if error.status in _CODE_OF_STATUS:
        return _CODE_OF_STATUS[error.status]
    return ExitCode.UNUSABLE_INPUT if 400 <= error.status < 500 else ExitCode.FAILED


@contextlib.contextmanager
def exit_on_failure(arguments: Sequence[str]) -> Iterator[None]:
    """Turn an exception into one line and an exit code. With `--json` among the arguments the line is JSON."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if "DEBUG" in (os.environ.get("FACE_IDENTITY_LOGGER_LEVEL"), os.environ.get("LOGGER_LEVEL")):
            raise
        known = _to_service_error(error)
        print(_line(known, "--json" in arguments), file=sys.stderr)
        raise SystemExit(exit_code(known)) from None


def _to_service_error(error: Exception) -> ServiceError:
    """The error of the catalogue. An unexpected error shows only its class: its text may hold secrets or embeddings."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, OSError) and error.strerror:
        return ServiceError(f"{error.filename or 'the operating system'}: {error.strerror}")
    from service.database.failures import as_service_error  # loads the drivers, which --help does not need

    unexpected = ServiceError(f"{type(error).__name__}; LOGGER_LEVEL=DEBUG shows the traceback")
    return as_service_error(error) or unexpected


def _line(error: ServiceError, as_json: bool) -> str:
    if as_json:
        fields = {"slug": error.slug, "title": error.title, "detail": error.detail}
        return json.dumps({"error": fields}, ensure_ascii=False)
    from service.cli.output import printable

    if type(error) in _GENERAL and error.detail:
        message = error.detail
    else:
        message = f"{error.title}: {error.detail}".removesuffix(": ")
    return "face-identity: " + " ".join(printable(message).split())
