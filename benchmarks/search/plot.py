"""Draws a run: the time of a search over the number of faces, and which engines lose mates."""

from collections import defaultdict
from pathlib import Path
from typing import Any

LEAST_FOUND = 0.999
"""The share of the exact search's mates below which an engine's line is dashed."""


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draw median milliseconds over faces, both on logarithmic axes, with one line for each engine and case."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6))
    axes.set_prop_cycle(color=[mpl.colormaps["tab20"](place) for place in range(20)])
    for name, rows in _lines(results).items():
        faces, medians = [row["faces"] for row in rows], [row["p50_ms"] for row in rows]
        loses = any(_loses_mates(row) for row in rows)
        label = f"{name} (loses mates)" if loses else name
        width = 2.5 if name.startswith("ours") else 1.0
        axes.plot(faces, medians, "--" if loses else "-", marker="o", markersize=4, linewidth=width, label=label)
    axes.set(xscale="log", yscale="log", xlabel="faces in the gallery", ylabel="ms a search (median, one client)")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _lines(results: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
    cases = {row["references"] for row in results}
    for row in results:
        if "error" not in row:
            of_each = f", {row['references']} a person" if len(cases) > 1 else ""
            lines[row["engine"] + of_each].append(row)
    return {name: sorted(rows, key=lambda row: int(row["faces"])) for name, rows in lines.items()}


def _loses_mates(row: dict[str, Any]) -> bool:
    return any(found < LEAST_FOUND * expected for found, expected in row["found"].values())
