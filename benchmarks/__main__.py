"""`python -m benchmarks [NAME ...]` runs benchmark programs; without names, the programs that take minutes, not hours.

Each can also be run alone: `python -m benchmarks.search --help`.
"""

import subprocess
import sys

QUICK = ["hamming", "paths", "search", "encoder", "encoder.overload", "bombs"]


def main() -> int:
    """Return the first exit status that is not 0, else 0."""
    for name in sys.argv[1:] or QUICK:
        status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        if status != 0:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
