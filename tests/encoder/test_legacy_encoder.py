"""The legacy encoder: a converted detector, any recognition model, two preprocessings; and folders that are refused."""

import itertools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from service.encoder.contract import Encoder, Image
from service.encoder.images.decode import decode_image
from service.encoder.kinds import LEGACY, LEGACY_PADDED_CROP
from service.encoder.legacy import PADDED_THRESHOLD
from service.encoder.networks.padded_crop import padded_crop
from service.encoder.opening import load_encoder
from service.errors import InvalidModel, InvalidSettings
from service.models.mxnet.conversion import convert_folder
from service.models.packs import file_digest
from service.settings import Settings
from tests.models.mxnet import families
from tests.support.encoders import LIMITS, cosine
from tests.support.legacy_models import RECOGNIZER, LegacyPair

KINDS = (LEGACY.name, LEGACY_PADDED_CROP.name)


def converted(folder: Path, name: str = "retinaface_mnet025_v1") -> Path:
    """A folder with a made-up detector and a made-up recognition model, converted."""
    networks = {name: families.retinaface_mnet(8), "arcface_mfn_v1": families.mobilefacenet(8, 16)}
    for each, (network, outputs) in networks.items():
        network.save(folder / "models" / each, outputs)
    convert_folder(folder / "models", folder / "converted")
    return folder / "converted"


def open_encoder(folder: Path, kind: str = "legacy") -> Encoder:
    return load_encoder(f"{kind}:{folder}", Settings())


def embeddings(encoder: Encoder, photographs: Mapping[str, list[bytes]]) -> dict[str, list[np.ndarray]]:
    """Person -> an embedding of the largest face of each photograph."""
    return {
        name: [_largest(encoder, decode_image(image, LIMITS)) for image in images]
        for name, images in photographs.items()
    }


def _largest(encoder: Encoder, image: Image) -> np.ndarray:
    faces = encoder.detect(image)
    assert faces, "no face found"
    return encoder.embed(encoder.align(image, faces[:1]))[0]


def test_every_person_is_recognized_and_no_stranger_is_accepted(legacy_pair: LegacyPair) -> None:
    """The first photograph of each person is enrolled, the others are probes, and each person is once a stranger."""
    encoder = open_encoder(legacy_pair.folder)
    people = embeddings(encoder, legacy_pair.photographs)
    for name, (_, *probes) in people.items():
        for probe in probes:
            scores = {other: cosine(probe, references[0]) for other, references in people.items()}
            assert max(scores, key=lambda other: scores[other]) == name
            assert scores[name] >= encoder.space.threshold
    for one, other in itertools.permutations(people, 2):
        for first, second in itertools.product(people[one], people[other]):
            assert cosine(first, second) < encoder.space.threshold - 0.1


def test_the_two_preprocessings_are_two_embedding_spaces(made_legacy_pair: LegacyPair) -> None:
    pair = made_legacy_pair.folder
    aligned, padded = (open_encoder(pair, kind).space for kind in KINDS)
    assert aligned.digest != padded.digest
    assert (aligned.name, padded.name) == (f"legacy:{pair}", f"legacy-padded-crop:{pair}")
    assert (aligned.dimension, aligned.metric) == (padded.dimension, padded.metric) == (128, "cosine")
    assert padded.threshold == PADDED_THRESHOLD == 0.3


def test_embeddings_of_padded_crops_equal_the_output_of_the_network(legacy_pair: LegacyPair) -> None:
    """OpenCV runs the network on the crops that test_padded_crop.py checks; the network's own scaling is 127.5."""
    encoder = open_encoder(legacy_pair.folder, "legacy-padded-crop")
    image = decode_image(legacy_pair.group, LIMITS)
    faces = encoder.detect(image)
    crops = encoder.align(image, faces)
    assert all(np.array_equal(crop, padded_crop(image, face.box)) for crop, face in zip(crops, faces, strict=True))
    network = cv2.dnn.readNetFromONNX(str(legacy_pair.folder / RECOGNIZER))
    for embedding, crop in zip(encoder.embed(crops), crops, strict=True):
        network.setInput((crop.transpose(2, 0, 1)[None] - np.float32(127.5)) / np.float32(127.5))
        expected = network.forward()[0]
        assert np.allclose(embedding, expected, atol=1e-3 * np.abs(expected).max())
        assert np.linalg.norm(embedding) > 1.5


def test_only_padded_crops_leave_out_a_face_that_reaches_beyond_the_image(legacy_pair: LegacyPair) -> None:
    image = decode_image(legacy_pair.partial, LIMITS)
    assert [len(open_encoder(legacy_pair.folder, kind).detect(image)) for kind in KINDS] == [1, 0]


def test_a_batch_of_several_images_gives_the_embeddings_of_single_faces(legacy_pair: LegacyPair) -> None:
    encoder = open_encoder(legacy_pair.folder)
    alone = legacy_pair.photographs[legacy_pair.people_of_group[0]][0]
    images = [decode_image(data, LIMITS) for data in (legacy_pair.group, alone)]
    crops = [crop for image in images for crop in encoder.align(image, encoder.detect(image))]
    together = encoder.embed(crops)
    assert len(together) == 3
    for crop, embedding in zip(crops, together, strict=True):
        assert cosine(embedding, encoder.embed([crop])[0]) > 0.99999


def test_a_converted_pair_is_an_encoder(tmp_path: Path) -> None:
    encoder = open_encoder(converted(tmp_path))
    assert encoder.space.dimension == 16
    image = np.random.default_rng(3).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    faces = encoder.detect(image)
    assert faces
    assert [embedding.shape for embedding in encoder.embed(encoder.align(image, faces))] == [(16,)] * len(faces)
    encoder.close()


def test_the_digest_depends_on_the_mxnet_files_and_not_on_their_conversion(tmp_path: Path) -> None:
    first, second = (open_encoder(converted(tmp_path / place)).space for place in ("one", "other"))
    assert first.digest == second.digest
    rewritten = tmp_path / "other" / "converted" / "arcface_mfn_v1"
    network = onnx.load(rewritten / "model.onnx")
    network.doc_string = "converted by a later version"
    onnx.save(network, rewritten / "model.onnx")
    manifest = json.loads((rewritten / "model.json").read_text())
    manifest["model"]["sha256"] = file_digest(rewritten / "model.onnx")
    (rewritten / "model.json").write_text(json.dumps(manifest))
    assert open_encoder(rewritten.parent).space.digest == first.digest


def test_another_network_or_version_of_it_has_another_digest(tmp_path: Path) -> None:
    folders = [converted(tmp_path / "one"), converted(tmp_path / "two", "retinaface_mnet025_v2")]
    network, outputs = families.mobilefacenet(4, 16)
    other = converted(tmp_path / "three")
    convert_folder(network.save(tmp_path / "changed" / "arcface_mfn_v1", outputs), other)
    digests = {open_encoder(folder).space.digest for folder in (*folders, other)}
    assert len(digests) == 3


def test_a_folder_in_the_data_folder_is_found_by_its_name(tmp_path: Path) -> None:
    shutil.move(converted(tmp_path), tmp_path / "data" / "models" / "ours")
    encoder = load_encoder("legacy:ours", Settings(data_dir=tmp_path / "data"))
    assert encoder.space.name == "legacy:ours"


def test_a_folder_that_does_not_exist_is_refused_with_the_searched_folders(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"'nowhere': searched nowhere, .*models"):
        load_encoder("legacy:nowhere", Settings(data_dir=tmp_path))


def test_an_mxnet_folder_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    converted(tmp_path)
    with pytest.raises(InvalidModel, match=r"convert it first: face-identity models convert .*arcface_mfn_v1"):
        open_encoder(tmp_path / "models" / "arcface_mfn_v1")


@pytest.mark.parametrize(
    ("missing", "what"),
    [("retinaface_mnet025_v1", "0 models .* detector"), ("arcface_mfn_v1", "0 models .* recognizer")],
)
def test_a_missing_detector_or_recognition_model_is_named(tmp_path: Path, missing: str, what: str) -> None:
    folder = converted(tmp_path)
    shutil.rmtree(folder / missing)
    with pytest.raises(InvalidModel, match=what):
        open_encoder(folder)


def test_a_folder_with_two_detectors_is_refused(tmp_path: Path) -> None:
    folder = converted(tmp_path)
    shutil.copytree(folder / "retinaface_mnet025_v1", folder / "another")
    with pytest.raises(
        InvalidModel, match=r"2 models .* detector, but one is needed: another/.*, retinaface_mnet025_v1"
    ):
        open_encoder(folder)


def test_networks_for_other_tasks_in_the_folder_are_ignored(tmp_path: Path) -> None:
    folder = converted(tmp_path)
    network, outputs = families.genderage(4)
    convert_folder(network.save(tmp_path / "genderage_v1", outputs), folder)
    assert open_encoder(folder).space.dimension == 16


def test_a_damaged_network_is_refused_when_the_encoder_opens(tmp_path: Path) -> None:
    folder = converted(tmp_path)
    path = folder / "arcface_mfn_v1" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InvalidModel, match="is not the file that its manifest describes"):
        open_encoder(folder)
