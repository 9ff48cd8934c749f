"""The command `face-identity`: the operations of `/v1` and the operator's tasks, directly on the database.

`main` finds the command, loads only its module, and turns errors into exit codes.
"""

import io
import signal
import sys
from types import FrameType

from service.cli.commands import build_application
from service.cli.exits import exit_on_failure


def main() -> None:
    """Run the command line and exit with one of the codes of `exits.py`."""
    signal.signal(signal.SIGTERM, _exit_on_signal)
    signal.signal(signal.SIGHUP, _exit_on_signal)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no failure
    with exit_on_failure(sys.argv[1:]):
        build_application(sys.argv[1:])(sys.argv[1:], prog_name="face-identity")


def _exit_on_signal(number: int, _: FrameType | None) -> None:
    """Unwind the stack as an error does, so that the last process stops the embedded database cleanly."""
    raise SystemExit(128 + number)
