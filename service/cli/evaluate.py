"""`face-identity evaluate`: measure an encoder on the user's own images."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.context import asynchronous, open_migrated, read_settings
from service.cli.encoders import EncoderName, encoders_named
from service.cli.options import Threshold
from service.cli.output import Json, progress, remark, write_json, write_line, write_table
from service.errors import NotFound

if TYPE_CHECKING:
    from service.identity.evaluate import EvaluationReport, Mistake


@asynchronous
async def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with one folder of images per person.")],
    *,
    encoder: EncoderName = None,
    threshold: Threshold = None,
    as_json: Json = False,
) -> None:
    """Measure an encoder on a folder of per-person folders.

    The first image of each person is enrolled in a temporary gallery, and the other images are probes. Then each
    person is left out once and searched as a stranger. Nothing is stored at the end.
    """
    from service.identity import evaluate as identity

    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}")
    settings = read_settings()
    with encoders_named(settings, encoder) as encoders:
        async with open_migrated(settings) as database:
            with progress() as bar:
                task = bar.add_task("encoding", total=None)
                report = await identity.evaluate(
                    database,
                    encoders,
                    folder,
                    encoders.default,
                    threshold=threshold,
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                )
    if as_json:
        write_json(asdict(report))
    else:
        _tell(report)


def _tell(report: "EvaluationReport") -> None:
    write_table(
        ["measure", "value", "meaning"],
        [
            ("people", report.people, f"{report.embedding_space} enrolled one image of each"),
            ("probes", report.probes, "the other images of these people"),
            ("rank-1 rate", _percent(report.rank1_rate), "probes whose nearest person is right"),
            ("FNIR", _percent(report.fnir), f"probes not recognized at threshold {report.threshold:.3f}"),
            (
                "FPIR",
                _percent(report.fpir),
                f"of {report.strangers} strangers, recognized as somebody at that threshold",
            ),
        ],
        "",
    )
    for failure in report.failed_to_enroll:
        remark(f"failed to enroll {failure.image}: {failure.reason}")
    for mistake in report.missed:
        write_line(f"missed {mistake.image}: {_nearest(mistake)}")
    for mistake in report.false_accepts:
        write_line(f"falsely accepted {mistake.image}: {_nearest(mistake)}")


def _nearest(mistake: "Mistake") -> str:
    if mistake.candidate is None or mistake.similarity is None:
        return "no candidate"
    return f"nearest is {mistake.candidate}, similarity {mistake.similarity:.3f}"


def _percent(rate: float | None) -> str:
    return "not measurable" if rate is None else f"{rate:.1%}"
