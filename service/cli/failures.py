"""What the user sees when a command fails: one line on standard error, and the exit code. No traceback."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence

from service.cli.exits import ExitCode, exit_code
from service.errors import DatabaseUnavailable, ServiceError


@contextlib.contextmanager
def exit_on_failure(arguments: Sequence[str]) -> Iterator[None]:
    """Turn an error into a line and an exit code; with `--json` among the arguments the line is JSON."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; nothing more to flush
        raise SystemExit(ExitCode.DONE) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if os.environ.get("LOGGER_LEVEL") == "DEBUG":
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
    said = f"{error.title}: {error.detail}" if error.detail else f"{error.title}."
    return "face-identity: " + " ".join(said.split())
