"""Packs installed from local archives, listed and verified; no network."""

import contextlib
import json
import random
import zipfile
from pathlib import Path

import pytest

from service.encoder.insightface import InsightfaceEncoder
from service.errors import Conflict, Forbidden, InvalidModel, InvalidRequest, NotFound
from service.models import install
from service.models.catalog import CATALOG, LICENSE_NOTICE, CatalogPack
from service.models.install import install_pack
from service.models.packs import MANIFEST, RECORD, file_digest, find_pack
from service.models.verify import list_packs, verify_pack
from tests.support.packs import DETECTOR, DIMENSION, RECOGNIZER

NETWORKS = (DETECTOR, RECOGNIZER)


@pytest.fixture
def archive(made_pack: Path, tmp_path: Path) -> Path:
    """The made pack as InsightFace publishes packs: in a folder, with files that are not needed."""
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for name in NETWORKS:
            zipped.write(made_pack / name, f"mine/{name}")
        zipped.writestr("mine/notes.txt", "not a network")
    return path


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def state(name: str, data_dir: Path) -> str:
    return {pack.name: pack.state for pack in list_packs(data_dir)}[name]


def test_an_archive_is_installed_listed_verified_and_loaded(archive: Path, data_dir: Path) -> None:
    verified = install_pack("mine", data_dir, accept_license=True, archive=archive)
    assert verified.is_intact
    assert {file.name for file in verified.files} == set(NETWORKS)
    assert verified.license == "non-commercial"
    assert state("mine", data_dir) == "installed"
    assert not (data_dir / "models" / "mine" / "notes.txt").exists()
    assert InsightfaceEncoder("insightface:mine", find_pack("mine", data_dir)).space.dimension == DIMENSION


def test_nothing_is_installed_if_the_license_is_not_accepted(archive: Path, data_dir: Path) -> None:
    with pytest.raises(Forbidden, match="non-commercial"):
        install_pack("mine", data_dir, accept_license=False, archive=archive)
    with pytest.raises(Forbidden):
        install_pack("buffalo_l", data_dir, accept_license=False)
    assert not data_dir.exists()
    assert "non-commercial" in LICENSE_NOTICE


def test_a_published_name_takes_only_the_published_files(archive: Path, data_dir: Path) -> None:
    with pytest.raises(InvalidModel, match=r"lacks det_10g\.onnx"):
        install_pack("buffalo_l", data_dir, accept_license=True, archive=archive)
    assert list((data_dir / "models").iterdir()) == []
    assert state("buffalo_l", data_dir) == "not installed"


def test_a_published_pack_with_a_manifest_takes_only_the_published_archive(archive: Path, data_dir: Path) -> None:
    with pytest.raises(InvalidModel, match=r"is not raccoon_s\.zip"):
        install_pack("raccoon_s", data_dir, accept_license=True, archive=archive)


def test_a_changed_file_is_found_by_verify_and_refused_at_installation(
    made_pack: Path, archive: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = {name: file_digest(made_pack / name) for name in NETWORKS}
    pack = CatalogPack("mine", "of the test", file_digest(archive), published)
    monkeypatch.setitem(CATALOG, "mine", pack)  # as if InsightFace published it
    assert install_pack("mine", data_dir, accept_license=True, archive=archive).is_intact
    network = data_dir / "models" / "mine" / NETWORKS[1]
    network.write_bytes(network.read_bytes() + b"\0")
    verified = verify_pack("mine", data_dir)
    assert [file.name for file in verified.files if not file.is_intact] == [NETWORKS[1]]
    changed = CatalogPack("other", "of the test", file_digest(archive), {**published, NETWORKS[0]: "0" * 64})
    monkeypatch.setitem(CATALOG, "other", changed)
    with pytest.raises(InvalidModel, match=rf"{NETWORKS[0]} is not the published file"):
        install_pack("other", data_dir, accept_license=True, archive=archive)
    assert not (data_dir / "models" / "other").exists()


def test_a_missing_file_of_a_published_pack_is_named(data_dir: Path) -> None:
    folder = data_dir / "models" / "buffalo_s"
    folder.mkdir(parents=True)
    (folder / "det_500m.onnx").write_bytes(b"")
    with pytest.raises(InvalidModel, match=r"lacks w600k_mbf\.onnx"):
        verify_pack("buffalo_s", data_dir)
    assert state("buffalo_s", data_dir) == "damaged"


def test_a_pack_with_a_manifest_keeps_it_and_its_digests(made_pack: Path, data_dir: Path, tmp_path: Path) -> None:
    tasks = {
        "detection": {"file": NETWORKS[0], "sha256": file_digest(made_pack / NETWORKS[0])},
        "recognition": {"file": NETWORKS[1], "sha256": file_digest(made_pack / NETWORKS[1])},
    }
    manifest = {"manifest_version": 2, "model_id": "mine", "license": "MODEL.LICENSE", "tasks": tasks}
    path = tmp_path / "manifest.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr(MANIFEST, json.dumps(manifest))
        for name in NETWORKS:
            zipped.write(made_pack / name, name)
    verified = install_pack("mine", data_dir, accept_license=True, archive=path)
    assert all(file.expected == file.digest for file in verified.files)


def test_an_installed_pack_is_not_overwritten(archive: Path, data_dir: Path) -> None:
    install_pack("mine", data_dir, accept_license=True, archive=archive)
    with pytest.raises(Conflict, match="remove it first"):
        install_pack("mine", data_dir, accept_license=True, archive=archive)


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "a\\b", ""])
def test_a_name_cannot_lead_out_of_the_folder(archive: Path, data_dir: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        install_pack(name, data_dir, accept_license=True, archive=archive)


def test_files_of_an_archive_never_leave_the_pack(made_pack: Path, data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "slip.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for name in NETWORKS:
            zipped.write(made_pack / name, f"../../{name}")
    install_pack("mine", data_dir, accept_license=True, archive=path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "slip.zip"]
    assert (data_dir / "models" / "mine" / NETWORKS[0]).is_file()


def test_a_file_that_is_no_archive_is_refused(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.zip"
    path.write_text("no zip")
    with pytest.raises(InvalidModel, match="not a readable zip file"):
        install_pack("mine", data_dir, accept_license=True, archive=path)
    with pytest.raises(NotFound, match="absent"):
        install_pack("mine", data_dir, accept_license=True, archive=tmp_path / "absent.zip")


def test_the_error_about_an_unknown_name_lists_the_published_packs(data_dir: Path) -> None:
    with pytest.raises(NotFound, match="buffalo_l"):
        install_pack("mine", data_dir, accept_license=True)
    with pytest.raises(NotFound, match="models/mine"):
        verify_pack("mine", data_dir)


def test_a_download_that_differs_is_not_installed(
    archive: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CatalogPack, "url", archive.as_uri())
    done: list[int] = []
    with pytest.raises(InvalidModel, match="is not what InsightFace published"):
        install_pack("buffalo_sc", data_dir, accept_license=True, progress=lambda now, _total: done.append(now))
    assert done[-1] == archive.stat().st_size
    assert list((data_dir / "models").iterdir()) == []


def test_an_endless_archive_is_stopped(archive: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_LARGEST_BYTES", 1000)
    with pytest.raises(InvalidModel, match="larger than 1000 bytes"):
        install_pack("mine", data_dir, accept_license=True, archive=archive)


def bomb(path: Path, members: int, size: int, ending: str = ".onnx") -> Path:
    """An archive of files of zeros, which is a thousand times smaller than its content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for number in range(members):
            zipped.writestr(f"{number}{ending}", bytes(size))
    return path


def test_an_archive_whose_files_together_are_too_large_is_stopped(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "_LARGEST_UNPACKED_BYTES", 10**6)
    path = bomb(tmp_path / "mine.zip", 20, 10**5)
    assert path.stat().st_size < 10**5
    with pytest.raises(InvalidModel, match="unpacks to more than 1000000 bytes"):
        install_pack("mine", data_dir, accept_license=True, archive=path)
    assert list((data_dir / "models").iterdir()) == []


def test_an_archive_of_too_many_files_is_refused(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="more than 1000 files"):
        install_pack("mine", data_dir, accept_license=True, archive=bomb(tmp_path / "mine.zip", 1001, 0, ".txt"))


def test_a_manifest_without_end_is_stopped(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(MANIFEST, b" " * (2**20 + 1))
    with pytest.raises(InvalidModel, match=f"{MANIFEST} is larger than 1048576 bytes"):
        install_pack("mine", data_dir, accept_license=True, archive=path)


@pytest.mark.parametrize("seed", range(40))
def test_an_archive_with_changed_bytes_is_refused_with_a_clear_error(
    archive: Path, data_dir: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret depends on it
    content = bytearray(archive.read_bytes())
    for _ in range(4):
        place = chance.randrange(len(content) - 400, len(content)) if seed % 2 else chance.randrange(len(content))
        content[place] = chance.randrange(256)
    path = tmp_path / "changed.zip"
    path.write_bytes(content)
    with contextlib.suppress(InvalidModel):
        install_pack("mine", data_dir, accept_license=True, archive=path)


def test_an_archive_is_compared_with_the_digest_that_is_given(archive: Path, data_dir: Path) -> None:
    with pytest.raises(InvalidModel, match="is not the expected file"):
        install_pack("mine", data_dir, accept_license=True, archive=archive, sha256="0" * 64)
    assert list((data_dir / "models").iterdir()) == []
    digest = file_digest(archive).upper()
    assert install_pack("mine", data_dir, accept_license=True, archive=archive, sha256=digest).is_intact


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_that_was_changed_after_its_installation_is_not_loaded(
    archive: Path, data_dir: Path, network: str
) -> None:
    install_pack("mine", data_dir, accept_license=True, archive=archive)
    file = data_dir / "models" / "mine" / network
    file.write_bytes(file.read_bytes() + b"\x92\x03\x00")  # an unknown field of protobuf: still a network
    with pytest.raises(InvalidModel, match=f"{network} was changed after its installation"):
        find_pack("mine", data_dir)
    assert state("mine", data_dir) == "damaged"


@pytest.mark.parametrize("content", ["", "[]", '{"files": 3}', "[" * 10_000])
def test_a_damaged_record_of_an_installation_is_named(archive: Path, data_dir: Path, content: str) -> None:
    install_pack("mine", data_dir, accept_license=True, archive=archive)
    (data_dir / "models" / "mine" / RECORD).write_text(content)
    with pytest.raises(InvalidModel, match="is not the record of an installation"):
        find_pack("mine", data_dir)


def test_every_published_pack_is_listed_with_its_license(data_dir: Path) -> None:
    listed = {pack.name: pack for pack in list_packs(data_dir)}
    assert {"buffalo_l", "buffalo_s", "buffalo_sc", "antelopev2", "raccoon_s", "raccoon_l"} <= set(listed)
    assert {pack.license for pack in listed.values()} == {"non-commercial"}
    for name in listed:
        assert len(CATALOG[name].archive_digest) == 64
        assert CATALOG[name].url.startswith("https://")
