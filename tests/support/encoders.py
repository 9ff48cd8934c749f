"""Encoders of the run and real photographs, decoded."""

from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest

from service.embedding import Embedding, EmbeddingSpace, normalized
from service.encoder.contract import Encoder, Image
from service.encoder.dlib import DlibEncoder
from service.encoder.images.decode import ImageLimits, decode_image
from service.encoder.insightface import InsightfaceEncoder
from service.models.packs import read_pack
from tests.support.data import data_path

LIMITS = ImageLimits(bytes=20 * 2**20, pixels=40_000_000)


def photograph(*parts: str) -> Image:
    """A photograph of the shared test data, decoded."""
    return decode_image(data_path("faces", *parts).read_bytes(), LIMITS)


def portrait() -> Image:
    """The photograph of Eileen Collins (NASA, public domain) that the command line ships, at twice its size."""
    data = files("service.cli").joinpath("data", "eileen-collins.png").read_bytes()
    return np.asarray(cv2.resize(decode_image(data, LIMITS), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))


def people_photographs() -> dict[str, list[Path]]:
    """Person -> photographs, by name."""
    folder = data_path("faces", "people")
    return {person.name: sorted(person.iterdir()) for person in sorted(folder.iterdir())}


def pack_folder() -> Path:
    """The pack with the larger detector."""
    return data_path("models", "scrfd2.5g-mobilefacenet128")


def similarity(space: EmbeddingSpace, one: Embedding, other: Embedding) -> float:
    """The similarity of the gallery, without clipping."""
    if space.metric == "euclidean":
        return float(1 - np.linalg.norm(one - other))
    return float(np.dot(normalized(one), normalized(other)))


def cosine(one: Embedding, other: Embedding) -> float:
    """Cosine of two embeddings of any space."""
    return float(np.dot(normalized(one), normalized(other)))


@pytest.fixture(scope="session")
def dlib_encoder() -> Encoder:
    """The default encoder."""
    return DlibEncoder()


@pytest.fixture(scope="session")
def insightface_encoder() -> Encoder:
    """SCRFD 2.5G and the 128-d MobileFaceNet."""
    return InsightfaceEncoder("insightface:pack", read_pack(pack_folder()))


@pytest.fixture(scope="session")
def made_encoder(made_pack: Path) -> Encoder:
    """The InsightFace encoder with the two small networks of the made pack."""
    return InsightfaceEncoder("insightface:made", read_pack(made_pack))


@pytest.fixture(params=["dlib", "insightface"])
def real_encoder(request: pytest.FixtureRequest) -> Encoder:
    """Each encoder with real weights."""
    encoder: Encoder = request.getfixturevalue(f"{request.param}_encoder")
    return encoder
