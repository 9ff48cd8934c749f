"""`face-identity models`: model files on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.context import read_settings
from service.cli.exits import ExitCode
from service.cli.output import Json, progress, remark, write_json, write_line, write_table
from service.errors import Forbidden, NotFound
from service.models.catalog import LICENSE_NOTICE, catalog_pack
from service.models.install import install_pack
from service.models.mxnet.conversion import ConversionReport, ConvertedModel, convert_folder
from service.models.verify import VerifiedPack, list_packs, verify_pack

application = typer.Typer(help="List, install, verify and convert model files.")


@application.callback()
def _models() -> None:
    """List, install, verify and convert model files."""


@application.command("list")
def list_all(*, as_json: Json = False) -> None:
    """List InsightFace packs that are installed or could be."""
    packs = list_packs(read_settings().data_dir)
    if as_json:
        write_json(
            [
                {
                    "name": pack.name,
                    "state": pack.state,
                    "description": pack.description,
                    "license": pack.license,
                    "folder": None if pack.folder is None else str(pack.folder),
                    "detail": pack.detail,
                }
                for pack in packs
            ]
        )
        return
    rows = [(pack.name, pack.state, pack.license, pack.detail or pack.description) for pack in packs]
    write_table(["pack", "state", "license", "what it is"], rows, "")


@application.command()
def install(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A pack of the list, or a name for --file.")],
    *,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="PACK.zip", help="Install from this file, without a network.")
    ] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Keep networks that are not needed too.")] = False,
    accepted: Annotated[bool, typer.Option("--yes", help="Accept the license without being asked.")] = False,
    as_json: Json = False,
) -> None:
    """Install an InsightFace pack into DATA_DIR/models, and verify it.

    The license is shown and has to be accepted. Use the pack with ENCODER=insightface:NAME.
    """
    if file is None:
        pack = catalog_pack(name)
        remark(f"{pack.name}: {pack.description}, from {pack.url}")
    remark(LICENSE_NOTICE)
    if not (accepted or _agrees()):
        raise Forbidden("the license was not accepted; nothing was installed")
    with progress() as bar:
        task = bar.add_task("downloading", total=None)
        installed = install_pack(
            name,
            read_settings().data_dir,
            accept_license=True,
            archive=file,
            everything=everything,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _tell(installed, as_json)


@application.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="NAME_OR_FOLDER", help="An installed pack, or a pack's folder.")],
    *,
    as_json: Json = False,
) -> None:
    """Compare a pack's files with the digests that are known of it.

    Exit code 1: a file is not what it should be.
    """
    _tell(verify_pack(name, read_settings().data_dir), as_json)


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


def _agrees() -> bool:
    """Ask; where nobody can answer, that is a no."""
    try:
        return typer.confirm("Do you accept this license?", err=True)
    except typer.Abort:
        return False


def _tell(pack: VerifiedPack, as_json: bool) -> None:
    if as_json:
        files = [
            {"name": file.name, "sha256": file.digest, "expected": file.expected, "is_intact": file.is_intact}
            for file in pack.files
        ]
        shown = {"name": pack.name, "folder": str(pack.folder), "license": pack.license}
        write_json(shown | {"is_intact": pack.is_intact, "files": files})
    else:
        write_line(f"{pack.name} in {pack.folder}, license: {pack.license}")
        states = [
            (
                file.name,
                file.digest,
                "no digest known" if file.expected is None else "intact" if file.is_intact else "CHANGED",
            )
            for file in pack.files
        ]
        write_table(["file", "SHA-256", "state"], states, "")
    if not pack.is_intact:
        raise typer.Exit(ExitCode.NO)


def _as_json(report: ConversionReport) -> dict[str, object]:
    return {
        "converted": [_described(model) for model in report.converted],
        "failed": [{"folder": str(failed.folder), "reason": failed.reason} for failed in report.failed],
    }


def _described(model: ConvertedModel) -> dict[str, object]:
    return {"model": model.source.name, "task": model.manifest.task, "folder": str(model.folder)}
