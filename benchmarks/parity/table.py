"""Writes the measurements as Markdown tables into the documentation."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.parity.boxes import BoxAgreement
from benchmarks.parity.numbers import Agreement
from benchmarks.parity.speed import Speed

PAGE = Path(__file__).parents[2] / "docs" / "legacy-models.md"


def numbers_table(agreements: Iterable[Agreement]) -> str:
    """Return one row for each network and input."""
    rows = [
        (a.subject.name, a.subject.weights, a.inputs, f"{a.difference:.1e}", f"{a.cosine:.7f}", _verdict(a.holds))
        for a in agreements
    ]
    return _table(("network", "weights", "input", "largest difference / scale", "smallest cosine", ""), rows)


def boxes_table(agreements: Iterable[BoxAgreement]) -> str:
    """Return one row for each detector."""
    rows = [
        (
            a.subject.name,
            f"{a.pictures} photographs, {a.faces} faces",
            str(a.missing),
            f"{a.overlap:.5f}",
            f"{a.score_difference:.1e}",
            f"{a.landmark_pixels:.4f}",
            _verdict(a.holds),
        )
        for a in agreements
    ]
    head = (
        "detector",
        "input",
        "on one side only",
        "smallest IoU",
        "scores differ by",
        "landmarks by pixels",
        "",
    )
    return _table(head, rows)


def speed_table(speeds: Iterable[Speed]) -> str:
    """Return one row for each network and input."""
    rows = [
        (
            s.subject.name,
            s.work,
            f"{s.mxnet:.1f}" + ("" if s.fused else " (unfused)"),
            f"{s.onnxruntime:.1f}",
            f"{s.ratio:.1f}",
        )
        for s in speeds
    ]
    return _table(("network", "input", "MXNet 1.9.1, faces/s", "converted, faces/s", "times as fast"), rows)


def write_into_page(name: str, text: str) -> None:
    """Replace the text between the page's marks of that name."""
    page = PAGE.read_text()
    begin, end = f"<!-- {name}: written by make parity -->\n", f"<!-- end of {name} -->"
    before, rest = page.split(begin)
    PAGE.write_text(before + begin + text + rest[rest.index(end) :])


def _verdict(holds: bool) -> str:
    return "holds" if holds else "**fails**"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
