"""`python -m benchmarks.page` writes the tables of docs/benchmarks.md from the results. It does not change the text.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, table
from benchmarks.search.__main__ import describe, report
from benchmarks.search.workload import Case

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
SEARCHES = (
    "search",
    "search-million-5",
    "search-100000-1",
    "search-million-1",
    "search-clusters",
    "search-low",
    "search-128",
)


def main() -> None:
    """Write every table of the page."""
    text = PAGE.read_text()
    for name, written in _TABLES.items():
        between = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        pieces = between.split(text)
        if len(pieces) != 4:
            raise SystemExit(f"{PAGE} needs one place for {name!r}")
        text = pieces[0] + pieces[1] + written() + pieces[2] + pieces[3]
    PAGE.write_text(text)


def _result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def _searches() -> str:
    parts = []
    for name in SEARCHES:
        for _, rows in groupby(_result(name)["results"], key=lambda row: (row["faces"], row["references"])):
            parts.append(_search(list(rows)))
    return "\n\n".join(parts)


def _search(rows: list[dict[str, Any]]) -> str:
    case = Case(**{field.name: rows[0][field.name] for field in fields(Case)})
    left_out = [f"{row['engine']} ({row['error']})" for row in rows if "error" in row]
    parts = [f"### {describe(case)}", report([row for row in rows if "error" not in row])]
    return "\n\n".join([*parts, *([f"Left out: {', '.join(left_out)}."] if left_out else [])])


def _galleries() -> str:
    result = _result("galleries")
    ways = ("alone", "among others")
    rows: list[list[object]] = [[way, result[way]["p50 ms"], result[way]["planning ms"]] for way in ways]
    return table(["gallery", "p50 ms", "planning ms"], rows)


def _ways() -> str:
    result = _result("encoder")
    sets = ("photographs", "five faces and more")
    headings = ["way"]
    for pictures in sets:
        headings += [f"{pictures}: images/s", "of the best bare loop", "times FaceAnalysis"]
    rows: list[list[object]] = []
    for way in result[sets[0]]["images_a_second"]:
        row: list[object] = [way]
        for pictures in sets:
            seen = result[pictures]
            row += [seen["images_a_second"][way], f"{seen['of_the_best_bare_loop'][way]:.0%}"]
            row.append(seen["of_face_analysis"][way])
        rows.append(row)
    return table(headings, rows)


def _stages() -> str:
    seconds: dict[str, float] = _result("encoder")["cpu_seconds_a_picture"]
    total = sum(seconds.values())
    rows: list[list[object]] = [[stage, 1e3 * spent, f"{spent / total:.0%}"] for stage, spent in seconds.items()]
    return table(["stage", "ms of a processor", "share"], rows)


def _overload() -> str:
    result = _result("encoder-overload")
    names = {
        "alone": "1 client",
        "saturated": f"{result['clients that saturate']} clients",
        "overload": f"{result['overload']['offered_a_second']:.0f} pictures a second for {result['seconds']:.0f} s",
        "after": f"{result['clients that saturate']} clients, the 10 s after",
    }
    rows: list[list[object]] = []
    for load, name in names.items():
        seen = result[load]
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(seen["statuses"].items()))
        rows.append([name, seen["answered_a_second"], 1e3 * seen["p50_seconds"], 1e3 * seen["p99_seconds"], statuses])
    return table(["load", "answered/s", "median, ms", "p99, ms", "statuses"], rows)


_TABLES: dict[str, Callable[[], str]] = {
    "search": _searches,
    "galleries": _galleries,
    "ways": _ways,
    "stages": _stages,
    "overload": _overload,
}


if __name__ == "__main__":
    main()
