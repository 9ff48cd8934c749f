"""The manifest of a converted network: the meaning of its numbers, so that an encoder need not guess.

Each network has a folder with `model.onnx` and `model.json`.
"""

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from service.errors import InvalidModel
from service.models.packs import file_digest

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "model.json"

ModelTask = Literal["detection", "recognition", "genderage"]
Meaning = Literal["face_probability", "box", "landmarks", "embedding", "gender_and_age"]


class SourceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name of a file, without its folder, and its SHA-256."""

    file: str
    sha256: str


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The input: size in pixels (None for any), channels, and (pixel - mean) * scale with pixels of 0..255."""

    name: str
    height: int | None
    width: int | None
    channels: Literal["RGB"]
    mean: float
    scale: float


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output. `stride` is in pixels, for the maps of a detector."""

    name: str
    meaning: Meaning
    stride: int | None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that is needed to run the network."""

    format: Literal["face-identity-model-1"]
    name: str
    task: ModelTask
    model: SourceFile
    symbol: SourceFile
    parameters: SourceFile
    input: Input
    outputs: tuple[Output, ...]
    embedding_dimension: int | None = None
    landmark_scale: float | None = None
    """Factor of a detector's landmark numbers: 1, or 0.2 in retinaface_mnet025_v2."""

    @property
    def source_digest(self) -> str:
        """Digest of both source files: equal for every conversion, by whatever version."""
        return hashlib.sha256(f"{self.symbol.sha256} {self.parameters.sha256}".encode()).hexdigest()


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write the manifest into the folder of its network."""
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST_FILE).write_bytes(encoded + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a converted network, checked against the network's file. Raises InvalidModel if they differ."""
    path = folder / MANIFEST_FILE
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise InvalidModel(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidModel(f"{path} is not the manifest of a converted network: {error}") from None
    described = folder / MODEL_FILE
    if manifest.model.file != MODEL_FILE or not described.is_file():
        raise InvalidModel(f"{path}: {MODEL_FILE} is missing")
    if file_digest(described) != manifest.model.sha256:
        raise InvalidModel(f"{described} is not the file that its manifest describes; convert it again")
    return manifest


def described(path: Path) -> SourceFile:
    """A file's name and digest."""
    return SourceFile(path.name, file_digest(path))
