"""`face-identity models`: model files on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.exits import ExitCode
from service.cli.output import Json, remark, write_json, write_table
from service.encoder.mxnet.conversion import ConversionReport, ConvertedModel, convert_folder
from service.errors import NotFound

application = typer.Typer(help="Convert model files of the MXNet generation.")


@application.callback()
def _models() -> None:
    """Convert model files of the MXNet generation."""


@application.command()
def convert(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A model's folder, or a folder of such folders.")],
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write (default: FOLDER-onnx).")] = None,
    as_json: Json = False,
) -> None:
    """Convert MXNet model folders (NAME-symbol.json, NAME-0000.params) to ONNX.

    Use them with ENCODER=legacy:FOLDER or legacy-padded-crop:FOLDER, where FOLDER is the one that was written: it needs
    one detector and one recognizer. Exit code 3: some could not be converted, 7: none.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}")
    report = convert_folder(folder, out)
    if as_json:
        write_json(_as_json(report))
    else:
        rows = [(model.source.name, model.manifest.task, model.folder) for model in report.converted]
        write_table(["model", "task", "written to"], rows, "")
        for failed in report.failed:
            remark(f"not converted {failed.folder}: {failed.reason}")
    if report.failed:
        raise typer.Exit(ExitCode.PARTLY)


def _as_json(report: ConversionReport) -> dict[str, object]:
    return {
        "converted": [_described(model) for model in report.converted],
        "failed": [{"folder": str(failed.folder), "reason": failed.reason} for failed in report.failed],
    }


def _described(model: ConvertedModel) -> dict[str, object]:
    return {"model": model.source.name, "task": model.manifest.task, "folder": str(model.folder)}
