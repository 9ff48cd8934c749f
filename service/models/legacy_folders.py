"""Folders of converted models: which network is the detector and which the recognition model, and their digests.

The layout is FOLDER/NAME/model.onnx with model.json beside it, as `face-identity models convert` writes it. The
recognition model may also be an ONNX file of InsightFace, in FOLDER or in a folder inside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidModel, InvalidSettings
from service.models.mxnet.manifest import MANIFEST_FILE, MODEL_FILE, Manifest, read_manifest
from service.models.packs import classify_model


@dataclass(frozen=True)
class DetectionModel:
    """A converted RetinaFace."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class RecognitionModel:
    """A recognition model with the input (pixel - mean) / std, from RGB pixels of 0..255. `digest` identifies the
    network.
    """

    path: Path
    digest: str
    mean: float
    std: float
    takes_batches: bool


@dataclass(frozen=True)
class LegacyModels:
    """The two networks of an encoder."""

    detection: DetectionModel
    recognition: RecognitionModel


def find_models(name: str, data_dir: Path) -> LegacyModels:
    """The pair in the folder `name`, or in that folder of DATA_DIR/models.

    Raises InvalidSettings, which names the searched folders, or InvalidModel if a model is missing, ambiguous or
    damaged.
    """
    places = [Path(name).expanduser(), data_dir / "models" / name]
    for place in places:
        if name and place.is_dir():
            return read_models(place)
    raise InvalidSettings(f"no folder of converted models {name!r}: searched {', '.join(map(str, places))}")


def read_models(folder: Path) -> LegacyModels:
    """The pair in `folder`. Raises InvalidModel if a model is missing, ambiguous or damaged."""
    _refuse_unconverted(folder)
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))]
    converted = [(place, read_manifest(place)) for place in places if (place / MANIFEST_FILE).is_file()]
    detections = [DetectionModel(place / MODEL_FILE, found) for place, found in converted if found.task == "detection"]
    recognitions = [_converted(place, found) for place, found in converted if found.task == "recognition"]
    recognitions += [found for place in places for found in _loose_recognitions(place)]
    _refuse_other_than_one(folder, "detector", [found.path for found in detections])
    _refuse_other_than_one(folder, "recognizer", [found.path for found in recognitions])
    return LegacyModels(detections[0], recognitions[0])


def _converted(folder: Path, manifest: Manifest) -> RecognitionModel:
    """Identified by its source files, so that converting again gives the same embedding space."""
    given = manifest.input
    return RecognitionModel(
        folder / MODEL_FILE, manifest.source_digest, given.mean, 1 / given.scale, takes_batches=True
    )


def _loose_recognitions(folder: Path) -> list[RecognitionModel]:
    if (folder / MANIFEST_FILE).is_file():
        return []
    known = [classify_model(path) for path in sorted(folder.glob("*.onnx"))]
    files = [file for task, file in filter(None, known) if task == "recognition"]
    return [RecognitionModel(file.path, file.digest, file.mean, file.std, takes_batches=False) for file in files]


def _refuse_unconverted(folder: Path) -> None:
    if any(folder.glob("*-symbol.json")):
        raise InvalidModel(f"{folder} holds an MXNet model; convert it first: face-identity models convert {folder}")


def _refuse_other_than_one(folder: Path, what: str, found: Sequence[Path]) -> None:
    if len(found) != 1:
        names = ": " + ", ".join(str(path.relative_to(folder)) for path in found) if found else ""
        raise InvalidModel(f"{folder} holds {len(found)} models that could be the {what}, but one is needed{names}")
