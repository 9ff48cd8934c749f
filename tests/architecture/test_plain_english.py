"""Sentences in docstrings, comments and docs avoid the phrases that CONTRIBUTING.md warns of."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.test_tree import REPOSITORY, tracked_files

BANNED = re.compile(
    r"\b(?:whoever|what is|of which|none that|one that|so many|hung up on|told of|as it came|lets go of|looked at"
    r"|kept beside|manieth|speaks? for|is to be \w+ed)\b",
    re.IGNORECASE,
)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
FOLDERS = {"service", "migrations", "docs", "examples", "face_identity", "benchmarks", "tests"}
MAXIMUM_COLUMNS = 120


def test_no_sentence_has_a_banned_phrase() -> None:
    assert list(banned_phrases()) == []


def test_lines_of_the_docs_are_short() -> None:
    """Tables and code blocks excepted: both cannot be wrapped."""
    wide = {name for name, text in pages() if any(is_wide(line) for line in CODE.sub("", text).splitlines())}
    assert sorted(wide) == []


def is_wide(line: str) -> bool:
    return len(line) > MAXIMUM_COLUMNS and not line.startswith("|")


def pages() -> Iterator[tuple[str, str]]:
    """The pages of docs/ and examples/, and the pages at the top."""
    for path in tracked_files():
        name = path.relative_to(REPOSITORY)
        if path.suffix == ".md" and (name.parts[0] in {"docs", "examples"} or len(name.parts) == 1):
            yield str(name), path.read_text()


def banned_phrases() -> Iterator[tuple[str, str]]:
    """Each file with a banned phrase, and the phrase."""
    for name, text in pages():
        if name != "CONTRIBUTING.md":  # it shows what to avoid
            yield from ((name, phrase) for phrase in BANNED.findall(re.sub(r"\s+", " ", CODE.sub("", text))))
    for path in tracked_files():
        relative = path.relative_to(REPOSITORY)
        if path.suffix == ".py" and relative.parts[0] in FOLDERS and path != Path(__file__):
            prose = re.sub(r"\s+", " ", CODE.sub("", "\n".join(sentences(path))))
            yield from ((str(relative), phrase) for phrase in BANNED.findall(prose))


def sentences(path: Path) -> Iterator[str]:
    """Comments, and every string that is a statement or has a blank and so may be a sentence."""
    source = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("# ")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value
