"""Where real photographs and models lie; a test that needs a missing one says so by name."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("FACE_IDENTITY_TEST_DATA", Path(__file__).parents[3] / "shared"))


def data_path(*parts: str) -> Path:
    """A path inside the shared test data; skips the test by name where it is missing."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"left out: test data {'/'.join(parts)} is not here (see FACE_IDENTITY_TEST_DATA)")
    return path
