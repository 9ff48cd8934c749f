"""The geometry of codes: derived values agree with real codes, and few mates lie beyond the derived distance."""

import numpy as np
import numpy.typing as npt
import pytest

from service.gallery.codes import FACE_BITS, TEMPLATE_BITS, Codes, face_codes, template_codes
from service.gallery.search.distances import CodeGeometry, max_distance, share_of_strangers
from service.gallery.templates import CLOSE
from tests.support.galleries import Matrix, unit

PAIRS = 8_000


def distances(first: Codes, second: Codes) -> npt.NDArray[np.int64]:
    return np.asarray(np.unpackbits(first ^ second, axis=1).sum(axis=1), dtype=np.int64)


def at_cosine(rows: Matrix, cosine: float, random: np.random.Generator) -> Matrix:
    """Return one vector for each row, at exactly that cosine to it."""
    noise = random.standard_normal(rows.shape)
    noise -= np.sum(noise * rows, axis=1, keepdims=True) * rows
    return np.asarray(cosine * rows + np.sqrt(1 - cosine**2) * unit(noise), dtype=np.float32)


@pytest.mark.parametrize("dimension", [256, 512, 640])
def test_strangers_are_as_rare_within_the_distance_as_derived(dimension: int) -> None:
    random = np.random.default_rng(0)
    first, second = (unit(random.standard_normal((PAIRS, dimension))) for _ in range(2))
    for kind, codes in (
        (CodeGeometry(dimension, FACE_BITS), face_codes),
        (CodeGeometry(dimension, TEMPLATE_BITS, CLOSE), template_codes),
    ):
        bound = max_distance(kind, 0.4)
        measured = np.mean(distances(codes(first), codes(second)) <= bound)
        assert measured == pytest.approx(share_of_strangers(kind, bound), rel=0.5, abs=5e-4)


@pytest.mark.parametrize("dimension", [256, 512, 640])
@pytest.mark.parametrize(("threshold", "cosine", "most"), [(0.4, 0.4, 1e-4), (0.4, 0.35, 1e-3), (0.3, 0.3, 1e-4)])
def test_mates_beyond_the_distance_are_as_rare_as_promised(
    dimension: int, threshold: float, cosine: float, most: float
) -> None:
    random = np.random.default_rng(1)
    references = unit(random.standard_normal((PAIRS, dimension)))
    probes = at_cosine(references, cosine, random)
    kind = CodeGeometry(dimension, FACE_BITS)
    lost = np.sum(distances(face_codes(references), face_codes(probes)) > max_distance(kind, threshold))
    assert lost <= most * PAIRS + 4 * np.sqrt(most * PAIRS)
    templates = at_cosine(references, CLOSE, random)
    kind = CodeGeometry(dimension, TEMPLATE_BITS, CLOSE)
    lost = np.sum(distances(template_codes(templates), template_codes(probes)) > max_distance(kind, threshold))
    assert lost <= most * PAIRS + 4 * np.sqrt(most * PAIRS)


def test_a_lower_threshold_gives_a_larger_distance() -> None:
    kind = CodeGeometry(512, TEMPLATE_BITS, CLOSE)
    assert max_distance(kind, 0.2) > max_distance(kind, 0.4)
    assert max_distance(kind, 0.9) == max_distance(kind, 0.6)  # down to a cosine of 0.35 whatever the threshold


@pytest.mark.parametrize(
    ("dimension", "start_of_face_code", "end_of_template_code"),
    [
        (512, "7af2ee91074c7191db9dcaebd4cfc6b2", "661b50c9c4d3f0a0f60a067ad0e83f22"),
        (1024, "440d0989b770cfbd0a861335fa4a694e", "b86b3ca855789117bcdb39eb8a1859aa"),
    ],
)
def test_codes_are_the_same_on_every_machine(
    dimension: int, start_of_face_code: str, end_of_template_code: str
) -> None:
    """Codes are stored, so another version of this program must make the same codes."""
    embedding = np.sin(np.arange(dimension, dtype=np.float64) ** 1.5).astype(np.float32)[np.newaxis]
    assert face_codes(embedding).tobytes().hex()[:32] == start_of_face_code
    assert template_codes(embedding).tobytes().hex()[-32:] == end_of_template_code


def test_a_vector_on_a_hyperplane_has_the_bit_zero() -> None:
    """Two equal numbers and zeros lie on half of the hyperplanes exactly, and on the positive side of a fourth."""
    embedding = np.zeros((1, 300), dtype=np.float32)
    embedding[0, [1, 2]] = 1.0
    assert np.unpackbits(face_codes(embedding)).sum() == FACE_BITS // 4
    assert np.unpackbits(template_codes(embedding)).sum() == TEMPLATE_BITS // 4
