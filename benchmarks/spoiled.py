"""Missed and falsely accepted people in spoiled photographs, with and without the gates.

    python -m benchmarks.spoiled FOLDER [ENCODER] [off|basic|standard|strict]

FOLDER has one folder of images for each person. Prints one row for each way to spoil them. Missed: spoiled images whose
person has another image, which do not match the best of these. False accepts: pairs of spoiled images of two people
that match and pass the gate. Images without a face count as missed.
"""

import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from service.embedding import Embedding
from service.encoder.contract import Box, Image
from service.encoder.images.decode import ImageLimits, decode_image
from service.identity.review import Gate, Review
from service.identity.verify import similarity_of
from service.recognizer import Recognizer

_LIMITS = ImageLimits(bytes=20 * 2**20, pixels=50_000_000)
_LONGEST_SIDE = 800
_GATES: dict[str, Gate] = {"off": "off", "basic": "basic", "standard": "standard", "strict": "strict"}


class Photograph(NamedTuple):
    """An image of one person, its largest face, and the embedding."""

    person: str
    image: Image
    box: Box
    embedding: Embedding


def blurred(image: Image, box: Box) -> Image:
    """A twentieth of the face's width."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), _width(box) / 20))


def moved(image: Image, box: Box) -> Image:
    """A fifth of the face's width, sideways."""
    return np.asarray(cv2.blur(image, (max(1, round(_width(box) / 5)), 1)))


def foggy(image: Image, _: Box) -> Image:
    """A tenth of the contrast."""
    return np.asarray(128 + (image.astype(np.int16) - 128) // 10).astype(np.uint8)


def masked(image: Image, box: Box) -> Image:
    """The lower half of the face covered by one pale color."""
    covered = image.copy()
    middle = round(box.top + 0.55 * (box.bottom - box.top))
    covered[middle : round(box.bottom), max(0, round(box.left)) : round(box.right)] = (200, 215, 225)
    return covered


def small(image: Image, box: Box, pixels: int) -> Image:
    """A face of `pixels`, in a gray frame."""
    scale = pixels / _width(box)
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.copyMakeBorder(reduced, *(60,) * 4, cv2.BORDER_CONSTANT, value=(110, 120, 130)))


WAYS: dict[str, Callable[[Image, Box], Image]] = {
    "as they are": lambda image, _: image,
    "dark: a sixth of the light": lambda image, _: image // 6,
    "dark: a twentieth of the light": lambda image, _: image // 20,
    "a tenth of the contrast": foggy,
    "blurred": blurred,
    "moved": moved,
    "24 pixels": lambda image, box: small(image, box, 24),
    "12 pixels": lambda image, box: small(image, box, 12),
    "masked": masked,
    "on the side": lambda image, _: np.ascontiguousarray(np.rot90(image)),
    "upside down": lambda image, _: np.ascontiguousarray(np.rot90(image, 2)),
}


def main(folder: str, encoder: str = "dlib", gate: str = "basic") -> None:
    review = Review(_GATES[gate], _GATES[gate])
    with Recognizer(encoder) as recognizer:
        photographs = _photographs(recognizer, Path(folder))
        print("| photographs | missed | false accepts |\n|---|---|---|")
        for name, spoil in WAYS.items():
            _print_row(
                recognizer, name, [_spoiled(recognizer, review, each, spoil) for each in photographs], photographs
            )


def _photographs(recognizer: Recognizer, folder: Path) -> list[Photograph]:
    found = []
    for path in sorted(folder.glob("*/*")):
        image = decode_image(path.read_bytes(), _LIMITS)
        scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        largest = recognizer.encode(image)[0]
        found.append(Photograph(path.parent.name, image, largest.face.box, largest.embedding))
    return found


def _spoiled(
    recognizer: Recognizer, review: Review, photograph: Photograph, spoil: Callable[[Image, Box], Image]
) -> Embedding | None:
    """The embedding of the largest face, or None if there is none or the gate refuses it."""
    faces = recognizer.encode(spoil(photograph.image, photograph.box))
    if not faces or review.of_probe(faces[0].face, recognizer.space.name):
        return None
    return faces[0].embedding


def _print_row(
    recognizer: Recognizer, name: str, embeddings: list[Embedding | None], photographs: list[Photograph]
) -> None:
    space = recognizer.space
    missed = probes = 0
    for place, (probe, photograph) in enumerate(zip(embeddings, photographs, strict=True)):
        mates = [
            other.embedding for at, other in enumerate(photographs) if at != place and other.person == photograph.person
        ]
        probes += bool(mates)
        best = max((similarity_of(space, probe, mate) for mate in mates), default=0.0) if probe is not None else 0.0
        missed += bool(mates) and best < space.threshold
    pairs = accepted = 0
    for (one, first), (other, second) in combinations(zip(embeddings, photographs, strict=True), 2):
        if first.person == second.person:
            continue
        pairs += 1
        if one is not None and other is not None:
            accepted += similarity_of(space, one, other) >= space.threshold
    print(f"| {name} | {missed} of {probes} | {accepted} of {pairs} |", flush=True)


def _width(box: Box) -> float:
    return box.right - box.left


if __name__ == "__main__":
    main(*sys.argv[1:])
