"""InsightFace packs on this machine: where a name or folder is searched, and the role of each file.

Nothing is downloaded here. Two layouts are supported: loose ONNX files, told apart by their inputs and outputs as
insightface does, and folders with a manifest (version 2, or version 1 of InsightFace Server).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from service.errors import InvalidModel, InvalidSettings

MANIFEST = "manifest.json"
RECORD = "face-identity-pack.json"
"""File in an installed pack: digests of its files, and of the archive that they came from."""

ModelTask = Literal["detection", "recognition"]
TASKS: tuple[ModelTask, ...] = ("detection", "recognition")

CAUTION = (
    "InsightFace's public weights are for non-commercial research only, so they are never downloaded without being "
    "asked for by name: face-identity models install"
)


@dataclass(frozen=True)
class ModelFile:
    """One network of a pack. Its input is (pixel - mean) / std, from pixels of 0..255."""

    path: Path
    digest: str
    mean: float
    std: float


@dataclass(frozen=True)
class Pack:
    """The two networks of an encoder."""

    folder: Path
    detection: ModelFile
    recognition: ModelFile


def find_pack(name: str, data_dir: Path) -> Pack:
    """The pack in the folder `name`, or of that name. Raises InvalidSettings, which names the searched folders."""
    if not name:
        raise InvalidSettings("the name or folder of a pack is missing")
    places = pack_places(name, data_dir)
    for place in places:
        if place.is_dir():
            return read_pack(place)
    looked = ", ".join(str(place) for place in places)
    raise InvalidSettings(f"no InsightFace pack {name!r}: searched the folders {looked}. {CAUTION}")


def pack_places(name: str, data_dir: Path) -> tuple[Path, ...]:
    """Search path of a pack: the folder itself, the installed packs, the packs of insightface."""
    return Path(name).expanduser(), data_dir / "models" / name, Path.home() / ".insightface" / "models" / name


def read_pack(folder: Path) -> Pack:
    """The pack in `folder`. Raises InvalidModel, which names the missing or wrong part, or a network that was changed
    after its installation.
    """
    manifest = _manifest(folder)
    pack = _loose_pack(folder) if manifest is None else _manifest_pack(folder, manifest)
    recorded = recorded_digests(folder)
    for file in (pack.detection, pack.recognition):
        if recorded.get(file.path.name, file.digest) != file.digest:
            raise InvalidModel(f"{file.path} was changed after its installation: its SHA-256 is {file.digest}")
    return pack


def recorded_digests(folder: Path) -> dict[str, str]:
    """The digests of the files when the pack was installed, by name; empty if this program has not installed it."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InvalidModel(f"{path} is not the record of an installation") from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of version 2, or None. Other versions are ignored, as insightface does."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise InvalidModel(f"{path} is not readable JSON") from None
    if not isinstance(manifest, dict):
        return None
    if manifest.get("manifest_version") == 1 and isinstance(manifest.get("files"), dict):
        return _as_version_2(manifest)
    return manifest if manifest.get("manifest_version") == 2 else None


def _as_version_2(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest of InsightFace Server's installer: two files with the usual scaling."""
    files = manifest["files"]
    return {"tasks": {"detection": {"file": files.get("detector")}, "recognition": {"file": files.get("recognizer")}}}


def _manifest_pack(folder: Path, manifest: dict[str, Any]) -> Pack:
    return Pack(folder, *(_declared(folder, manifest, task) for task in TASKS))


def _declared(folder: Path, manifest: dict[str, Any], task: ModelTask) -> ModelFile:
    place = f"{folder / MANIFEST}: tasks.{task}"
    tasks = manifest.get("tasks")
    declared = tasks.get(task) if isinstance(tasks, dict) else None
    if not isinstance(declared, dict) or not isinstance(declared.get("file"), str):
        raise InvalidModel(f"{place} does not name a file")
    path = _inside(folder, declared["file"], place)
    digest = file_digest(path)
    if declared.get("sha256", digest) != digest:
        raise InvalidModel(f"{path.name} is not the file that {place} describes: its SHA-256 is {digest}")
    mean, std = _scaling(declared.get("preprocessing"), task, place)
    return ModelFile(path, digest, mean, std)


def _inside(folder: Path, name: str, place: str) -> Path:
    relative = PurePosixPath(name)
    path = folder / relative
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or path.suffix.lower() != ".onnx":
        raise InvalidModel(f"{place}: {name!r} is not an ONNX file inside the pack")
    if not path.is_file():
        raise InvalidModel(f"{place}: {name} is missing")
    return path


def _scaling(preprocessing: object, task: ModelTask, place: str) -> tuple[float, float]:
    """`embedded`: the network scales the pixels itself."""
    if preprocessing is None:
        return (127.5, 128.0) if task == "detection" else (127.5, 127.5)
    if preprocessing == "embedded":
        return 0.0, 1.0
    if isinstance(preprocessing, dict):
        mean, std = preprocessing.get("mean"), preprocessing.get("std")
        if isinstance(mean, int | float) and isinstance(std, int | float) and std > 0:
            return float(mean), float(std)
    raise InvalidModel(f"{place}.preprocessing is neither 'embedded' nor a mean and a std")


def _loose_pack(folder: Path) -> Pack:
    found: dict[ModelTask, ModelFile] = {}
    for path in sorted(folder.glob("*.onnx")):
        known = classify_model(path)
        if known is not None and known[0] not in found:
            found[known[0]] = known[1]
    missing = [task for task in TASKS if task not in found]
    if missing:
        raise InvalidModel(f"{folder} has no ONNX file for {' and '.join(missing)}")
    return Pack(folder, found["detection"], found["recognition"])


def classify_model(path: Path) -> tuple[ModelTask, ModelFile] | None:
    """Role of a loose file, by insightface's rules: five or more outputs are a detector, a square input of 112 or more
    pixels is a recognition model (192 are landmarks, 96 attributes, two inputs swap faces).
    """
    graph = load_onnx(path, weights=False).graph
    initialized = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initialized]
    if len(graph.output) >= 5:
        return "detection", ModelFile(path, file_digest(path), 127.5, 128.0)
    sides = [dimension.dim_value for dimension in inputs[0].type.tensor_type.shape.dim][2:4] if inputs else []
    square = len(sides) == 2 and sides[0] == sides[1] and sides[0] >= 112 and sides[0] % 16 == 0
    if len(inputs) != 1 or len(graph.output) != 1 or not square or sides[0] == 192:
        return None
    names = [node.name for node in graph.node[:8]]
    scales_itself = _any_begins(names, "Sub", "_minus") and _any_begins(names, "Mul", "_mul")
    mean, std = (0.0, 1.0) if scales_itself else (127.5, 127.5)
    return "recognition", ModelFile(path, file_digest(path), mean, std)


def _any_begins(names: list[str], *beginnings: str) -> bool:
    return any(name.startswith(beginnings) for name in names)


def load_onnx(path: Path, *, weights: bool = True) -> Any:
    """The ONNX graph of a file. Raises InvalidModel if it is not one."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types

    try:
        return onnx.load_model(str(path), load_external_data=weights)
    except (DecodeError, OSError, ValueError):
        raise InvalidModel(f"{path} is not a readable ONNX file") from None
