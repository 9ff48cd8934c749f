"""The networks of the comparison: real networks of ../shared/legacy-models, and families with random weights."""

import shutil
from pathlib import Path

from benchmarks.parity.oracle_client import Oracle
from benchmarks.parity.subject import Subject
from service.models.mxnet.conversion import convert_model
from service.models.mxnet.manifest import MODEL_FILE
from tests.models.mxnet import families
from tests.models.mxnet.making import Making
from tests.support.data import ROOT


def real_subjects(workplace: Path) -> list[Subject]:
    """RetinaFace mnet025 and genderage with their published weights."""
    folders = [ROOT / "legacy-models" / name for name in ("retinaface_mnet025", "genderage")]
    return [_converted(folder, workplace, "real") for folder in folders]


def initialized_subjects(workplace: Path, oracle: Oracle) -> list[Subject]:
    """Published symbols with parameters that MXNet itself generates and writes."""
    found = []
    for seed, name in enumerate(("arcface_r34", "arcface_mobilefacenet_y1")):
        folder = workplace / "mxnet" / name
        folder.mkdir(parents=True)
        symbol = shutil.copyfile(ROOT / "legacy-models" / name / "model-symbol.json", folder / "model-symbol.json")
        oracle.ask("initialize", symbol=symbol, parameters=folder / "model-0000.params", seed=seed)
        found.append(_converted(folder, workplace, "random"))
    return found


def made_subjects(workplace: Path) -> list[Subject]:
    """Families without a symbol in ../shared, made from the same block patterns."""
    made: dict[str, tuple[Making, list[int]]] = {
        "arcface_r50": families.arcface(families.UNITS["r50"]),
        "arcface_r100": families.arcface(families.UNITS["r100"]),
        "retinaface_r50": families.retinaface_r50(),
    }
    folders = [network.save(workplace / "mxnet" / name, outputs) for name, (network, outputs) in made.items()]
    return [_converted(folder, workplace, "random, made symbol") for folder in folders]


def _converted(folder: Path, workplace: Path, weights: str) -> Subject:
    converted = convert_model(folder, workplace / "onnx")
    manifest = converted.manifest
    return Subject(
        name=manifest.name,
        task=manifest.task,
        weights=weights,
        symbol=folder / manifest.symbol.file,
        parameters=folder / manifest.parameters.file,
        model=converted.folder / MODEL_FILE,
        landmark_scale=manifest.landmark_scale or 1.0,
    )
