"""`python -m benchmarks.search` runs every engine on the same crowds. It prints tables and writes JSON results."""

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from benchmarks.machine import keep, machine, table
from benchmarks.search.crowds import CLOSENESS, COSINES, INTRINSIC_DIMENSION, Kind
from benchmarks.search.peers import PEERS
from benchmarks.search.plot import draw
from benchmarks.search.trial import CLIENTS, THRESHOLD, run_trial
from benchmarks.search.workload import Case, prepare

SIZES = [1_000, 10_000, 100_000]
MILLION = 1_000_000


def main() -> None:
    """Run the requested cases."""
    asked = _arguments()
    sizes = [*asked.sizes, MILLION] if asked.million else asked.sizes
    results: list[dict[str, Any]] = []
    on = machine()
    with tempfile.TemporaryDirectory(prefix="face-identity-bench-") as temporary:
        Path(temporary).chmod(0o711)  # as root, PostgreSQL runs as another user
        for size in sizes:
            for references in asked.references:
                case = Case(asked.kind, size, references, asked.dimension, asked.probes)
                rows = run_case(case, asked.peers, Path(temporary))
                results += [asdict(case) | row for row in rows]
                print(f"\n{describe(case)}; {on['processor']}, {on['cores']} cores\n\n{report(rows)}\n", flush=True)
                keep(asked.name, {"results": results})
    kept = keep(asked.name, {"results": results})
    _draw(results, kept.with_suffix(".png"))
    print(f"kept in {kept}")


def _draw(results: list[dict[str, Any]], picture: Path) -> None:
    try:
        draw(results, picture)
    except ImportError:
        print("no plot without matplotlib: pip install -e '.[bench]'")


def run_case(case: Case, peers: list[str], folder: Path) -> list[dict[str, Any]]:
    """Run every engine on one crowd."""
    workload = folder / "workload"
    prepare(workload, case)
    rows = []
    for name in peers:
        print(f"{name} ...", end=" ", flush=True)
        rows.append(run_trial(name, workload, folder / name))
        print(rows[-1].get("error") or f"p50 {rows[-1]['p50_ms']:.2f} ms", flush=True)
    return rows


def describe(case: Case) -> str:
    """Return a description of the data."""
    kinds = {
        "isotropic": "people in random directions",
        "low": f"people in {INTRINSIC_DIMENSION} of the dimensions",
        "clusters": "people of two clusters",
    }
    of_each = f"{case.references} reference{'s' * (case.references > 1)} a person, cosine {CLOSENESS} to the center"
    return f"{case.faces:,} faces of {case.dimension} dimensions, {of_each}, {kinds[case.kind]}"


def report(rows: list[dict[str, Any]]) -> str:
    """Return a table with one row for each engine."""
    headings = [
        "engine",
        *(f"found at {cosine}" for cosine in COSINES),
        f"strangers >= {THRESHOLD}",
        "p50 ms",
        "p99 ms",
    ]
    headings += [
        "1 client /s",
        f"{CLIENTS} clients /s",
        f"{CLIENTS} programs /s",
        "build s",
        "findable s",
        "restart s",
        "disk B/face",
        "RAM B/face",
    ]
    lines: list[list[object]] = []
    for row in rows:
        if "error" in row:
            lines.append([f"{row['engine']}: {row['error']}", *[None] * (len(headings) - 1)])
            continue
        found = ["{}/{}".format(*row["found"][str(cosine)]) for cosine in COSINES]
        accepted = "{} (exact {}) of {}".format(*row["false_accepts"])
        numbers = ["p50_ms", "p99_ms", "rate_1_client", f"rate_{CLIENTS}_clients", f"rate_{CLIENTS}_programs"]
        numbers += ["build_seconds", "findable_seconds", "restart_seconds"]
        numbers += ["bytes_a_face_on_disk", "bytes_a_face_in_memory"]
        figures = [None if row.get(number) is None else float(row[number]) for number in numbers]
        lines.append([row["engine"], *found, accepted, *figures])
    return table(headings, lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="faces in the gallery")
    parser.add_argument("--million", action="store_true", help="a million faces too")
    parser.add_argument("--references", type=int, nargs="*", default=[5], help="references a person")
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--kind", choices=get_args(Kind), default="isotropic")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS), metavar="ENGINE")
    parser.add_argument("--probes", type=int, default=200, help="probes at each cosine, and strangers")
    parser.add_argument("--name", default="search", help="of the file under benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
