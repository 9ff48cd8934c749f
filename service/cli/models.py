"""`face-identity models`: list, install, verify and convert the model files of this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.context import read_settings
from service.cli.exits import ExitCode
from service.cli.output import Json, progress, remark, write_json, write_line, write_table
from service.encoder.kinds import INSIGHTFACE, LEGACY, LEGACY_PADDED_CROP
from service.errors import Forbidden, NotFound
from service.models.catalog import LICENSE_NOTICE, catalog_pack

if TYPE_CHECKING:
    from service.models.mxnet.conversion import ConversionReport, ConvertedModel
    from service.models.verify import ListedPack, VerifiedPack

application = typer.Typer(help="List, install, verify and convert model files.")


@application.callback()
def _models() -> None:
    """List, install, verify and convert model files."""


@application.command("list")
def list_all(*, as_json: Json = False) -> None:
    """List the InsightFace packs that are installed or can be installed, and the devices of the encoders in use."""
    from service.encoder.devices import network_devices
    from service.encoder.opening import encoder_names
    from service.models.verify import list_packs

    settings = read_settings()
    packs = list_packs(settings.data_dir)
    encoders = [(name, *network_devices(name, settings)) for name in encoder_names(settings)]
    if as_json:
        fields = ("name", "detector_device", "recognizer_device")
        in_use = [dict(zip(fields, encoder, strict=True)) | {"state": "in use"} for encoder in encoders]
        write_json([*in_use, *map(_listed, packs)])
        return
    rows = [(pack.name, pack.state, pack.license, pack.detail or pack.description) for pack in packs]
    write_table(["pack", "state", "license", "description"], rows, "")
    write_line("")
    write_table(["encoder of the settings", "detector runs on", "recognition model runs on"], encoders, "")


@application.command(
    help=f"""Install an InsightFace pack into DATA_DIR/models, and verify it.

    Shows the license, which you must accept. Use the pack with ENCODER={INSIGHTFACE.name}:NAME.
    """
)
def install(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A pack from `models list`, or the new name for --file.")],
    *,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="PACK.zip", help="Install from this file, without a network.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="DIGEST", help="The SHA-256 that the archive must have.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also keep networks that the service does not use.")
    ] = False,
    accepted: Annotated[bool, typer.Option("--yes", help="Accept the license without a question.")] = False,
    as_json: Json = False,
) -> None:
    from service.models.install import install_pack

    if file is None:
        pack = catalog_pack(name)
        remark(f"{pack.name}: {pack.description}, from {pack.url}")
    remark(LICENSE_NOTICE)
    if not (accepted or _accepts_license()):
        raise Forbidden("the license was not accepted; nothing was installed")
    with progress() as bar:
        task = bar.add_task("downloading", total=None)
        installed = install_pack(
            name,
            read_settings().data_dir,
            accept_license=True,
            archive=file,
            sha256=sha256,
            everything=everything,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print_pack(installed, as_json)


@application.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="NAME_OR_FOLDER", help="An installed pack, or a pack's folder.")],
    *,
    as_json: Json = False,
) -> None:
    """Compare the files of a pack with their known digests.

    Exit code 1: a file was changed.
    """
    from service.models.verify import verify_pack

    _print_pack(verify_pack(name, read_settings().data_dir), as_json)


@application.command(
    help=f"""Convert MXNet model folders (NAME-symbol.json, NAME-0000.params) to ONNX.

    Use the written folder with ENCODER={LEGACY.usage} or {LEGACY_PADDED_CROP.usage}; it must contain one detector and
    one recognition model. Exit code 3: some models could not be converted, 7: none could.
    """
)
def convert(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A model folder, or a folder of model folders.")],
    *,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write (default: FOLDER-onnx).")] = None,
    as_json: Json = False,
) -> None:
    from service.models.mxnet.conversion import convert_folder

    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}")
    report = convert_folder(folder, out)
    if as_json:
        write_json(_report_fields(report))
    else:
        rows = [(model.source.name, model.manifest.task, model.folder) for model in report.converted]
        write_table(["model", "task", "written to"], rows, "")
        for failed in report.failed:
            remark(f"not converted {failed.folder}: {failed.reason}")
    if report.failed:
        raise typer.Exit(ExitCode.PARTLY)


def _listed(pack: "ListedPack") -> dict[str, object]:
    return {
        "name": pack.name,
        "state": pack.state,
        "description": pack.description,
        "license": pack.license,
        "folder": None if pack.folder is None else str(pack.folder),
        "detail": pack.detail,
    }


def _accepts_license() -> bool:
    """Ask on the terminal; without a terminal the answer is no."""
    try:
        return typer.confirm("Do you accept this license?", err=True)
    except typer.Abort:
        return False


def _print_pack(pack: "VerifiedPack", as_json: bool) -> None:
    if as_json:
        files = [
            {"name": file.name, "sha256": file.digest, "expected": file.expected, "is_intact": file.is_intact}
            for file in pack.files
        ]
        fields = {"name": pack.name, "folder": str(pack.folder), "license": pack.license}
        write_json(fields | {"is_intact": pack.is_intact, "files": files})
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


def _report_fields(report: "ConversionReport") -> dict[str, object]:
    return {
        "converted": [_fields(model) for model in report.converted],
        "failed": [{"folder": str(failed.folder), "reason": failed.reason} for failed in report.failed],
    }


def _fields(model: "ConvertedModel") -> dict[str, object]:
    return {"model": model.source.name, "task": model.manifest.task, "folder": str(model.folder)}
