"""Decision records follow the template, the index lists all of them, and lines of the records are short."""

import re
from pathlib import Path

import pytest

DECISIONS = Path(__file__).parents[2] / "docs" / "decisions"
RECORDS = sorted(path for path in DECISIONS.glob("[0-9]*.md") if not path.name.startswith("0000"))
HEADINGS = ["Context", "Decision", "Alternatives", "Consequences"]
STATUS = r"- Status: (?:proposed|accepted|superseded by decision \d+)\n- Date: \d{4}-\d\d-\d\d\n"


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_record_has_a_number_a_status_a_date_and_every_heading_in_order(record: Path) -> None:
    text = record.read_text()
    number = int(record.name[:4])
    assert re.match(rf"# {number}\. [^\n]+\n\n{STATUS}\n## Context\n", text)
    headings = re.findall(r"(?m)^## (.+)$", text)
    assert [heading for heading in headings if heading in HEADINGS] == HEADINGS


def test_the_index_lists_every_record_with_its_title() -> None:
    index = (DECISIONS / "README.md").read_text()
    titles = [(record.read_text().split("\n", 1)[0].removeprefix("# "), record.name) for record in RECORDS]
    entries = [f"- {number}. [{name}]({file})" for title, file in titles for number, name in [title.split(". ", 1)]]
    assert [line for line in index.splitlines() if re.match(r"- \d+\. \[", line)] == entries
