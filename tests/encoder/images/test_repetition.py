"""Files whose parts are repeated: segments, scans, chunks, blocks and numbers of every format."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.encoder.images.decode import MAXIMUM_WORK, decode_image, read_image_structure
from service.encoder.images.structure import MAXIMUM_SCANS
from service.errors import ServiceError
from tests.encoder.images.test_decode import colors, saved
from tests.encoder.images.test_formats import GOOD_FILES
from tests.support import bombs
from tests.support.encoders import LIMITS

FILES = {name: data for name, data in GOOD_FILES.items() if name not in {"AVIF", "HEIC", "TIFF of JPEG"}} | {
    "progressive JPEG": saved(colors(), "JPEG", progressive=True),
    "JPEG of scans": bombs.jpeg_of_scans(20),
    "PNG of chunks": bombs.png_of_chunks(20),
    "GIF of blocks": bombs.gif_of_blocks(20),
    "TIFF of strips": bombs.tiff_of_strips(20),
}


class Repeated(NamedTuple):
    """A part of a file, in thousandths of its length, and how often it occurs."""

    start: int
    length: int
    times: int


repeated = st.builds(Repeated, st.integers(0, 999), st.integers(1, 100), st.integers(0, 3000))


def repeat(data: bytes, part: Repeated) -> bytes:
    start = max(4, part.start * len(data) // 1000)
    end = start + max(1, part.length * len(data) // 1000)
    return data[:start] + data[start:end] * part.times + data[end:]


@pytest.mark.parametrize("name", FILES)
def test_repeated_parts_give_pixels_or_a_clear_error_and_bounded_work(name: str) -> None:
    @given(
        parts=st.lists(repeated, min_size=1, max_size=3), changes=st.lists(st.tuples(repeated, st.binary(max_size=4)))
    )
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @example(parts=[Repeated(500, 100, 1000)], changes=[])
    def fuzz(parts: list[Repeated], changes: list[tuple[Repeated, bytes]]) -> None:
        data = FILES[name]
        for part in parts:
            data = repeat(data, part)[:200_000]
        for place, value in changes:
            start = 4 + place.start * len(data) // 1001
            data = data[:start] + value + data[start + len(value) :]
        try:
            structure = read_image_structure(data, LIMITS)
            assert structure.passes <= 4 * MAXIMUM_SCANS
            if structure.pixels * structure.passes > MAXIMUM_WORK / 100:  # correct, but slow for a test
                return
            pixels = decode_image(data, LIMITS)
        except ServiceError as error:
            assert error.status in {413, 415, 422}, error  # noqa: PT017 - either outcome is right, a third is not
            assert error.detail  # noqa: PT017
        else:
            assert pixels.dtype == np.uint8

    fuzz()
