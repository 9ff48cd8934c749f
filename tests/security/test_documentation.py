"""docs/security.md names a test for each promise, and every named test exists."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "security.md"


def test_every_test_named_in_the_page_exists() -> None:
    named = set(re.findall(r"`([a-z_]+/[a-z_]+\.py)`", DOCUMENT.read_text()))
    assert len(named) > 15
    assert sorted(name for name in named if not (TESTS / name).is_file()) == []


def test_the_page_names_every_test_of_this_folder() -> None:
    named = set(re.findall(r"`security/([a-z_]+\.py)`", DOCUMENT.read_text()))
    here = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    assert sorted(here - named) == []
