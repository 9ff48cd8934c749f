"""The text of every search statement, in full, as `statements.sql` records it.

After a wanted change of the SQL, write the file anew and read its difference:

    python -m tests.gallery.test_statements
"""

from itertools import product
from pathlib import Path
from textwrap import dedent

from service.embedding import Metric
from service.gallery.codes import has_codes
from service.gallery.search.plans import Plan, PlanInputs, choose, exact, plans
from service.gallery.search.search import form_of
from service.gallery.search.statements import StatementShape, statement, statement_of_one_person
from tests.support.galleries import space_of

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")
RECORDED = Path(__file__).with_name("statements.sql")
SPACES: list[tuple[int, Metric]] = [(512, "cosine"), (128, "cosine"), (128, "euclidean")]
SIZES = [(people * references, people) for people in (10, 1_000, 300_000) for references in (1, 3, 300)]


def forms() -> list[StatementShape]:
    """Return every form that a search can have in small and large galleries of every kind of space, sorted."""
    found = set()
    for (dimension, metric), (faces, templates) in product(SPACES, SIZES):
        space = space_of(dimension, metric)
        inputs = PlanInputs(faces, templates, 0.4, dimension, metric, has_codes(space))
        for is_filtered, mean_of, has_many_probes in product((False, True), (1, 3), (False, True)):
            possible = [choose(inputs, 5, is_filtered=is_filtered, mean_of=mean_of), exact_plan(is_filtered, mean_of)]
            if inputs.has_codes and not is_filtered and mean_of == 1:
                possible += plans(inputs, 5)
            found |= {
                form_of(plan, space, is_filtered=is_filtered, mean_of=mean_of, has_many_probes=has_many_probes)
                for plan in possible
            }
    return sorted(found, key=title)


def exact_plan(is_filtered: bool, mean_of: int) -> Plan:
    return exact(is_filtered=is_filtered, mean_of=mean_of)


def title(form: StatementShape) -> str:
    """Return the path and the fields that are set."""
    words = [form.path.value, form.metric, "with codes" if form.is_coded else "without codes"]
    for name in ("bounded", "prefiltered", "single_reference", "filtered", "mean"):
        if getattr(form, f"is_{name}"):
            words.append(name.replace("_", " "))
    return ", ".join([*words, "many probes" if form.has_many_probes else "one probe"])


def recorded() -> str:
    """Return the text of the file."""
    titles: dict[str, list[str]] = {}
    for form in forms():
        titles.setdefault(statement(form), []).append(title(form))
    for metric in METRICS:
        titles[statement_of_one_person(metric)] = [f"one person, {metric}"]
    return "\n".join(heading(names) + tidy(text) for text, names in titles.items())


def heading(names: list[str]) -> str:
    return "".join(f"-- {name}\n" for name in names)


def tidy(text: str) -> str:
    """Return the statement without empty lines and without spaces at the end of a line."""
    lines = [line.rstrip() for line in dedent(text.strip("\n")).splitlines()]
    return "\n".join(line for line in lines if line) + ";\n"


def test_every_search_statement_is_recorded_in_full() -> None:
    assert RECORDED.read_text().split("\n\n") == recorded().split("\n\n")


def test_no_two_forms_share_a_title() -> None:
    titles = [title(form) for form in forms()]
    assert len(titles) == len(set(titles))


if __name__ == "__main__":
    RECORDED.write_text(recorded())
