"""No regular expression of the program can take more than linear time, whatever the input.

A backtracking matcher takes quadratic time or more exactly if the pattern is ambiguous in a certain way: two different
states p and q, and a word w that leads from p to p, from p to q and from q to q ("infinite degree of ambiguity": Weber
and Seidl, On the degree of ambiguity of finite automata, 1991). The test builds an automaton of each pattern and
searches for such a pair in the product of three copies of it. No time is measured.
"""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from re import _constants, _parser  # the parse tree has no public name
from typing import Any

import pytest

import service

ALPHABET = [chr(code) for code in range(256)]
Symbols = frozenset[str]


class Automaton:
    """States are numbers; `edges[state]` are pairs of symbols and next state, without empty steps."""

    def __init__(self, pattern: re.Pattern[Any], *, searches: bool) -> None:
        self.flags = pattern.flags
        self.steps: list[list[tuple[Symbols, int]]] = []
        self.empty: list[list[int]] = []
        text = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
        start = self.state()
        if searches:  # a search tries every start: as if the pattern began with any number of any symbols
            self.steps[start].append((frozenset(ALPHABET), start))
        self.end = self.sequence(_parser.parse(text, pattern.flags & ~re.DEBUG), start)
        self.edges = [
            [edge for other in self.closure(state) for edge in self.steps[other]] for state in range(len(self.steps))
        ]

    def state(self) -> int:
        self.steps.append([])
        self.empty.append([])
        return len(self.steps) - 1

    def closure(self, state: int) -> set[int]:
        reached, work = {state}, [state]
        while work:
            for other in self.empty[work.pop()]:
                if other not in reached:
                    reached.add(other)
                    work.append(other)
        return reached

    def sequence(self, parts: Any, start: int) -> int:
        for operation, value in parts:
            start = self.part(operation, value, start)
        return start

    def part(self, operation: Any, value: Any, start: int) -> int:
        c = _constants
        if operation in (c.LITERAL, c.NOT_LITERAL, c.IN, c.ANY):
            end = self.state()
            self.steps[start].append((self.symbols(operation, value), end))
            return end
        if operation in (c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT):
            return self.repeat(operation, value, start)
        if operation is c.SUBPATTERN:
            return self.sequence(value[3], start)
        if operation is c.BRANCH:
            ends = [self.sequence(branch, self.begin(start)) for branch in value[1]]
            end = self.state()
            for other in ends:
                self.empty[other].append(end)
            return end
        if operation in (c.AT, c.ASSERT, c.ASSERT_NOT):  # conditions only take words away
            return start
        raise NotImplementedError(operation)

    def begin(self, start: int) -> int:
        first = self.state()
        self.empty[start].append(first)
        return first

    def repeat(self, operation: Any, value: Any, start: int) -> int:
        least, most, body = value
        for _ in range(min(least, 3)):
            start = self.sequence(body, start)
        if most is not _constants.MAXREPEAT and most <= 64:
            end = self.state()
            self.empty[start].append(end)
            for _ in range(min(most - least, 3)):
                start = self.sequence(body, self.begin(start))
                self.empty[start].append(end)
            return end
        loop = self.begin(start)
        self.empty[self.sequence(body, loop)].append(loop)
        if operation is not _constants.POSSESSIVE_REPEAT:
            return self.begin(loop)
        # A possessive repeat gives nothing back: after it comes a symbol that the body does not match.
        (inner, inner_value), *others = body
        assert not others
        end = self.state()
        self.after_possessive(loop, end, frozenset(ALPHABET) - self.symbols(inner, inner_value))
        return end

    def after_possessive(self, loop: int, end: int, allowed: Symbols) -> None:
        guarded = self.state()
        self.empty[loop].append(guarded)
        self.guards = [*getattr(self, "guards", []), (guarded, end, allowed)]

    def resolve_guards(self) -> None:
        for guarded, end, allowed in reversed(getattr(self, "guards", [])):
            edges = [edge for other in self.closure(end) for edge in self.steps[other]]
            self.steps[guarded] += [(symbols & allowed, target) for symbols, target in edges if symbols & allowed]
        self.edges = [
            [edge for other in self.closure(state) for edge in self.steps[other]] for state in range(len(self.steps))
        ]

    def symbols(self, operation: Any, value: Any) -> Symbols:
        spelled = _one_symbol_pattern(operation, value, self.flags)
        return frozenset(symbol for symbol in ALPHABET if spelled(symbol))


def _one_symbol_pattern(operation: Any, value: Any, flags: int) -> Any:
    c = _constants
    ignores_case = bool(flags & re.IGNORECASE)

    def matches(symbol: str) -> bool:
        if operation is c.ANY:
            return symbol != "\n"
        if operation is c.LITERAL:
            return symbol == chr(value) or (ignores_case and symbol.lower() == chr(value).lower())
        if operation is c.NOT_LITERAL:
            return symbol != chr(value)
        is_negated, found = False, False
        for kind, what in value:
            if kind is c.NEGATE:
                is_negated = True
            elif kind is c.LITERAL:
                found |= symbol == chr(what) or (ignores_case and symbol.lower() == chr(what).lower())
            elif kind is c.RANGE:
                found |= what[0] <= ord(symbol) <= what[1]
            elif kind is c.CATEGORY:
                found |= bool(re.fullmatch(CATEGORIES[what], symbol))
        return found != is_negated

    return matches


CATEGORIES = {
    _constants.CATEGORY_DIGIT: r"\d",
    _constants.CATEGORY_NOT_DIGIT: r"\D",
    _constants.CATEGORY_SPACE: r"\s",
    _constants.CATEGORY_NOT_SPACE: r"\S",
    _constants.CATEGORY_WORD: r"\w",
    _constants.CATEGORY_NOT_WORD: r"\W",
}


def is_ambiguous(pattern: re.Pattern[Any], *, searches: bool) -> bool:
    """Whether some word leads from p to p, from p to q and from q to q, for two different states p and q."""
    automaton = Automaton(pattern, searches=searches)
    automaton.resolve_guards()
    states = [state for state, edges in enumerate(automaton.edges) if edges]
    if searches:  # a search ends at the first accepting state, so nothing is tried again from there
        states = [state for state in states if automaton.end not in automaton.closure(state)]
    return any(_reaches(automaton, (p, p, q), (p, q, q)) for p in states for q in states if p != q)


def _reaches(automaton: Automaton, start: tuple[int, int, int], goal: tuple[int, int, int]) -> bool:
    seen, work = {start}, [start]
    while work:
        first, second, third = work.pop()
        for one, after_one in automaton.edges[first]:
            for two, after_two in automaton.edges[second]:
                if not one & two:
                    continue
                for three, after_three in automaton.edges[third]:
                    following = (after_one, after_two, after_three)
                    if not one & two & three:
                        continue
                    if following == goal:
                        return True
                    if following not in seen:
                        seen.add(following)
                        work.append(following)
    return False


def patterns() -> Iterator[tuple[str, re.Pattern[Any], bool]]:
    """Every compiled pattern of the program, and whether the program searches with it."""
    for module_info in pkgutil.walk_packages(service.__path__, "service."):
        module = importlib.import_module(module_info.name)
        source = Path(module.__file__ or "").read_text(encoding="utf-8")
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern) and re.search(rf"(?m)^{name}(: \w+)? = re\.compile", source):
                searches = bool(re.search(rf"{name}\.(search|sub|split|findall|finditer)\(", source))
                yield f"{module_info.name}.{name}", value, searches


PATTERNS = list(patterns())


@pytest.mark.parametrize(("pattern", "searches"), [row[1:] for row in PATTERNS], ids=[row[0] for row in PATTERNS])
def test_no_pattern_of_the_program_is_ambiguous(pattern: re.Pattern[Any], searches: bool) -> None:
    assert not is_ambiguous(pattern, searches=searches)


@pytest.mark.parametrize(
    ("pattern", "searches"),
    [
        (r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", False),
        (r"(a+)+b", False),
        (r"\s+$x", True),
        (r"(a|aa)*b", False),
        (r".*=.*=x", False),
    ],
)
def test_an_ambiguous_pattern_is_found(pattern: str, searches: bool) -> None:
    assert is_ambiguous(re.compile(pattern), searches=searches)


ROOT = Path(service.__file__).parents[1]
SOURCES = [path for folder in ("service", "migrations", "videoAnalytics") for path in (ROOT / folder).rglob("*.py")]


def _calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def _of_re(call: ast.Call) -> str:
    """The name of the function of `re` that is called, or the empty string."""
    is_of_re = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "re"
    return call.func.attr if is_of_re and isinstance(call.func, ast.Attribute) else ""


def test_every_pattern_is_compiled_at_the_top_of_a_module() -> None:
    """A pattern that is written inside a function would escape the test above."""
    inline = [
        f"{path.name}:{call.lineno}"
        for path in SOURCES
        for call in _calls(path)
        if _of_re(call) not in {"", "compile", "escape"}
    ]
    assert inline == []
    compiled = [path.name for path in SOURCES for call in _calls(path) if _of_re(call) == "compile"]
    assert len(compiled) == len(PATTERNS), compiled
    assert not any("from re import" in path.read_text(encoding="utf-8") for path in SOURCES)


def test_no_pattern_is_given_to_a_library() -> None:
    """Fields of pydantic, msgspec and FastAPI take patterns as text, which the test above would not find."""
    given = [
        f"{path.name}:{call.lineno}"
        for path in SOURCES
        for call in _calls(path)
        if {keyword.arg for keyword in call.keywords} & {"pattern", "regex"}
    ]
    assert given == []
