"""The command `face-identity`: what `/v1` offers, and the operator's work, on the database directly.

`main` hides how commands are found, how errors become exit codes, and that heavy libraries load late.
"""

import signal
import sys
from types import FrameType

from service.cli.commands import build_application
from service.cli.failures import exit_on_failure


def main() -> None:
    """Run the command line and leave with one of the exit codes of `exits.py`."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    with exit_on_failure(sys.argv[1:]):
        build_application(sys.argv[1:])(sys.argv[1:], prog_name="face-identity")


def _leave(number: int, _: FrameType | None) -> None:
    """Unwind as for an error, so that the embedded database is left in order."""
    raise SystemExit(128 + number)
