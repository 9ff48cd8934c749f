"""Paths of real photographs and models. A test that needs a missing file is skipped with the file's name."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("FACE_IDENTITY_TEST_DATA", Path(__file__).parents[3] / "shared"))


def data_path(*parts: str) -> Path:
    """Return a path inside the shared test data. Skips the test by name if it is missing."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"left out: test data {'/'.join(parts)} is not here (see FACE_IDENTITY_TEST_DATA)")
    return path
