"""Installs packs into DATA_DIR/models, from InsightFace or from a local file.

Nothing is downloaded unless the operator names it and accepts its license. A pack appears whole or not at all.
"""

import hashlib
import json
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from service.errors import Conflict, Forbidden, InvalidModel, InvalidRequest, NotFound
from service.models.catalog import CATALOG, LICENSE_NOTICE, CatalogPack, catalog_pack
from service.models.packs import MANIFEST, RECORD, file_digest, read_pack
from service.models.verify import VerifiedPack, verify_folder

_LARGEST_BYTES = 512 * 2**20  # of an archive and of one file in it; the largest published archive has 361 MB
_LARGEST_UNPACKED_BYTES = 2**30  # of all files together; the networks of the largest published pack have 408 MB
_MOST_MEMBERS = 1000
_LARGEST_TEXT_BYTES = 2**20  # of a manifest or a license
_CHUNK_BYTES = 2**20
_TIMEOUT_SECONDS = 60

ReportBytes = Callable[[int, int | None], None]
"""Called with the bytes done, and the total if it is known."""


def install_pack(
    name: str,
    data_dir: Path,
    *,
    accept_license: bool,
    archive: Path | None = None,
    sha256: str | None = None,
    everything: bool = False,
    progress: ReportBytes | None = None,
) -> VerifiedPack:
    """Install the pack into DATA_DIR/models, from InsightFace or from a local `archive` (zip), and verify it.

    Installs detector and recognition model; `everything` installs the other networks, too. `sha256` is the digest that
    the archive must have; a pack that was not published has no other. Raises Forbidden if the license is not accepted,
    Conflict if the pack is installed, and InvalidModel if a digest differs; nothing is kept then.
    """
    if not accept_license:
        raise Forbidden(LICENSE_NOTICE)
    target = _target(name, data_dir)
    published = CATALOG.get(name) if archive is not None else catalog_pack(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".installing-") as scratch:
        file = archive or _download(catalog_pack(name), Path(scratch) / "pack.zip", progress)
        digest = file_digest(_existing(file))
        if sha256 is not None and digest != sha256.strip().lower():
            raise InvalidModel(f"{file.name} is not the expected file: its SHA-256 is {digest}")
        if published is not None and digest != published.archive_digest and not published.files:
            raise InvalidModel(f"{file.name} is not {name}.zip as InsightFace published it: its SHA-256 is {digest}")
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        _unpack(file, unpacked)
        _check_digests(unpacked, published.files if published is not None else {})
        if not everything:
            _keep_needed(unpacked)
        _record(unpacked, name, digest)
        unpacked.replace(target)
    return verify_folder(name, target)


def _target(name: str, data_dir: Path) -> Path:
    if not name or PurePosixPath(name).name != name or name.startswith(".") or "\\" in name:
        raise InvalidRequest(f"{name!r} is not a valid name of a pack")
    target = data_dir / "models" / name
    if target.exists():
        raise Conflict(f"{target} already exists; remove it first to install the pack again")
    return target


def _existing(archive: Path) -> Path:
    if not archive.is_file():
        raise NotFound(f"there is no file {archive}")
    return archive


def _download(pack: CatalogPack, file: Path, progress: ReportBytes | None) -> Path:
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(pack.url, timeout=_TIMEOUT_SECONDS) as answer, file.open("wb") as out:  # noqa: S310 - the catalog has https only
            total = int(answer.headers.get("Content-Length") or 0) or None
            for chunk in _chunks(answer, _LARGEST_BYTES, pack.url):
                out.write(chunk)
                digest.update(chunk)
                if progress is not None:
                    progress(out.tell(), total)
    except (urllib.error.URLError, OSError) as error:
        raise InvalidModel(
            f"{pack.url} cannot be downloaded ({error}); download it elsewhere and install it from the file"
        ) from None
    if digest.hexdigest() != pack.archive_digest:
        raise InvalidModel(f"{pack.url} is not what InsightFace published: its SHA-256 is {digest.hexdigest()}")
    return file


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the networks, the manifest and the license. Folders inside the archive are flattened, links are
    refused.
    """
    try:
        if archive.stat().st_size > _LARGEST_BYTES:
            raise InvalidModel(f"{archive.name} is larger than {_LARGEST_BYTES} bytes")
        with zipfile.ZipFile(archive) as opened:
            left = _LARGEST_UNPACKED_BYTES
            if len(opened.infolist()) > _MOST_MEMBERS:
                raise InvalidModel(f"{archive.name} has more than {_MOST_MEMBERS} files")
            for member in opened.infolist():
                name = PurePosixPath(member.filename).name
                if member.is_dir() or not (name.endswith(".onnx") or name in (MANIFEST, "MODEL.LICENSE")):
                    continue
                if (folder / name).exists():
                    raise InvalidModel(f"{archive.name} has two files {name}")
                most = _LARGEST_BYTES if name.endswith(".onnx") else _LARGEST_TEXT_BYTES
                with opened.open(member) as source, (folder / name).open("wb") as out:
                    for chunk in _chunks(source, most, name):
                        if (left := left - len(chunk)) < 0:
                            raise InvalidModel(f"{archive.name} unpacks to more than {_LARGEST_UNPACKED_BYTES} bytes")
                        out.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        raise InvalidModel(f"{archive.name} is not a readable zip file: {error}") from None


def _chunks(source: IO[bytes], most: int, name: str) -> Iterator[bytes]:
    done = 0
    while chunk := source.read(_CHUNK_BYTES):
        done += len(chunk)
        if done > most:
            raise InvalidModel(f"{name} is larger than {most} bytes")
        yield chunk


def _check_digests(folder: Path, expected: Mapping[str, str]) -> None:
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise InvalidModel(f"the archive lacks {name}")
        if (actual := file_digest(path)) != digest:
            raise InvalidModel(f"{name} is not the published file: its SHA-256 is {actual}, not {digest}")


def _keep_needed(folder: Path) -> None:
    pack = read_pack(folder)
    needed = {pack.detection.path.name, pack.recognition.path.name}
    for path in folder.glob("*.onnx"):
        if path.name not in needed:
            path.unlink()


def _record(folder: Path, name: str, archive_digest: str) -> None:
    files = {path.name: file_digest(path) for path in sorted(folder.glob("*.onnx"))}
    record = {"name": name, "archive_sha256": archive_digest, "files": files}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
