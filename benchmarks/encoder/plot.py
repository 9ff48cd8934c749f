"""Draws the figures of `benchmarks.encoder`: images a second, and processor time by stage."""

from typing import Any

from benchmarks.machine import RESULTS


def draw(figures: dict[str, Any]) -> None:
    """Write encoder.png and encoder-stages.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    sets = ("photographs", "five faces and more")
    figure, every = pyplot.subplots(1, 2, figsize=(13, 4.5), sharey=True)
    for axes, name in zip(every, sets, strict=True):
        rates = figures[name]["images_a_second"]
        colors = ["tab:blue" if way.startswith("HTTP") else "tab:gray" for way in rates]
        axes.bar_label(axes.barh(list(rates), list(rates.values()), color=colors), fmt="%.1f", padding=3)
        axes.set_title(name)
        axes.set_xlabel("images a second")
        axes.margins(x=0.12)
    every[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(RESULTS / "encoder.png", dpi=80)

    spent = {stage: seconds * 1000 for stage, seconds in figures["cpu_seconds_a_picture"].items()}
    figure, axes = pyplot.subplots(figsize=(8, 3))
    axes.bar_label(axes.barh(list(spent), list(spent.values())), fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds of a processor a picture")
    axes.margins(x=0.12)
    figure.tight_layout()
    figure.savefig(RESULTS / "encoder-stages.png", dpi=80)
