"""Packs on this machine: which exist, their licenses, and whether their files are intact."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.errors import InvalidModel, NotFound
from service.models.catalog import CATALOG
from service.models.packs import MANIFEST, file_digest, pack_places, read_pack, recorded_digests


@dataclass(frozen=True)
class ListedPack:
    """A pack that is installed or can be installed. `detail` explains the state damaged."""

    name: str
    state: Literal["installed", "not installed", "damaged"]
    description: str
    license: str
    folder: Path | None
    detail: str = ""


@dataclass(frozen=True)
class VerifiedFile:
    """One file of a pack. `expected` is None if no digest was published."""

    name: str
    digest: str
    expected: str | None

    @property
    def is_intact(self) -> bool:
        """Whether the file has the expected digest, or none is known."""
        return self.expected in (None, self.digest)


@dataclass(frozen=True)
class VerifiedPack:
    """Result of verifying the folder of a pack."""

    name: str
    folder: Path
    license: str
    files: tuple[VerifiedFile, ...]

    @property
    def is_intact(self) -> bool:
        """Whether every file is intact."""
        return all(file.is_intact for file in self.files)


def list_packs(data_dir: Path) -> list[ListedPack]:
    """The published packs and all others in DATA_DIR/models, by name."""
    models = data_dir / "models"
    others = {path.name for path in models.iterdir() if _is_pack_folder(path)} if models.is_dir() else set()
    return [_listed(name, data_dir) for name in (*CATALOG, *sorted(others - set(CATALOG)))]


def verify_pack(name: str, data_dir: Path) -> VerifiedPack:
    """Verify every network of the pack of that name, or in that folder.

    Raises NotFound, which names the searched folders, or InvalidModel if the pack is not usable at all.
    """
    places = pack_places(name, data_dir)
    folder = next((place for place in places if name and place.is_dir()), None)
    if folder is None:
        raise NotFound(f"no pack {name!r} in {', '.join(map(str, places))}")
    return verify_folder(folder.resolve().name, folder)


def verify_folder(name: str, folder: Path) -> VerifiedPack:
    """Verify the pack `name` in `folder` against the published digests, its manifest and the record of its
    installation.
    """
    published = _published_digests(name)
    expected = {**_manifest_digests(folder), **recorded_digests(folder), **published}
    found = {path.name: file_digest(path) for path in sorted(folder.glob("*.onnx"))}
    missing = sorted(set(published) - set(found))
    if missing:
        raise InvalidModel(f"{folder} lacks {', '.join(missing)}")
    files = tuple(VerifiedFile(file, digest, expected.get(file)) for file, digest in found.items())
    if all(file.is_intact for file in files):
        read_pack(folder)
    return VerifiedPack(name, folder, license_of(folder), files)


def license_of(folder: Path) -> str:
    """The licence of the pack: InsightFace's public terms unless the folder holds a MODEL.LICENSE.

    The signature of a MODEL.LICENSE is checked if the Python package insightface (2.1 or newer) is installed. The plain
    installation does not have it, because it requires the OpenCV build with windows.
    """
    if not (folder / "MODEL.LICENSE").exists():
        return "non-commercial"
    try:
        from insightface.model_zoo.model_license import inspect_model_package_license
    except ImportError:
        return "see MODEL.LICENSE (signature not checked: the Python package insightface is not installed)"
    inspection = inspect_model_package_license(folder)
    return str(inspection.grant) if inspection.error is None else f"invalid: {inspection.error}"


def _listed(name: str, data_dir: Path) -> ListedPack:
    description = CATALOG[name].description if name in CATALOG else "installed from a local file"
    folder = _installed_folder(name, data_dir)
    if folder is None:
        return ListedPack(name, "not installed", description, "non-commercial", None)
    try:
        read_pack(folder)
    except InvalidModel as error:
        return ListedPack(name, "damaged", description, license_of(folder), folder, error.detail)
    return ListedPack(name, "installed", description, license_of(folder), folder)


def _is_pack_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and any(path.glob("*.onnx"))


def _installed_folder(name: str, data_dir: Path) -> Path | None:
    _, *installed = pack_places(name, data_dir)
    return next((place for place in installed if place.is_dir()), None)


def _manifest_digests(folder: Path) -> dict[str, str]:
    tasks = _json(folder / MANIFEST).get("tasks")
    declared = [task for task in tasks.values() if isinstance(task, dict)] if isinstance(tasks, dict) else []
    return {str(task.get("file")): str(task["sha256"]) for task in declared if "sha256" in task}


def _published_digests(name: str) -> dict[str, str]:
    return dict(CATALOG[name].files) if name in CATALOG else {}


def _json(path: Path) -> dict[str, object]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}
