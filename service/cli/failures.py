"""What the user sees when a command fails: one line on standard error, and the exit code. No traceback."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence

from service.cli.exits import exit_code
from service.errors import Conflict, DatabaseUnavailable, InvalidRequest, NotFound, ServiceError

_GENERAL = {NotFound, Conflict, InvalidRequest}  # their titles say less than any detail


@contextlib.contextmanager
def exit_on_failure(arguments: Sequence[str]) -> Iterator[None]:
    """Turn an error into a line and an exit code; with `--json` among the arguments the line is JSON."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if "DEBUG" in (os.environ.get("FACE_IDENTITY_LOGGER_LEVEL"), os.environ.get("LOGGER_LEVEL")):
            raise
        known = _in_the_catalogue(error)
        print(_line(known, "--json" in arguments), file=sys.stderr)
        raise SystemExit(exit_code(known)) from None


def _in_the_catalogue(error: Exception) -> ServiceError:
    """The error itself, or one that tells no more than its kind: its text may hold what belongs in no log."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, OSError) and error.strerror:
        return ServiceError(f"{error.filename or 'the operating system'}: {error.strerror}")
    if type(error).__name__ in {"OperationalError", "InterfaceError"}:
        return DatabaseUnavailable("the connection was lost or refused")
    return ServiceError(f"{type(error).__name__}; LOGGER_LEVEL=DEBUG shows where")


def _line(error: ServiceError, as_json: bool) -> str:
    if as_json:
        told = {"slug": error.slug, "title": error.title, "detail": error.detail}
        return json.dumps({"error": told}, ensure_ascii=False)
    from service.cli.output import printable

    says_all = type(error) in _GENERAL and error.detail
    said = error.detail if says_all else f"{error.title}: {error.detail}".removesuffix(": ")
    return "face-identity: " + " ".join(printable(said).split())
