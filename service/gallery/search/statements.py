# ruff: noqa: S608 - every piece of these statements is written in this file
"""The SQL of every search plan. Each statement has one query plan, which `tests/gallery/test_plans.py` holds.

A statement is one of four texts, one for each search path, in which optional conditions are left out or in.
`tests/gallery/statements.sql` shows every statement that a search can send, in full.

All statements have the same outer part: of each probe, the nearest people; of each person, the nearest reference (an
older one before an equal newer one); then the name. Every statement names the tenant besides the policy.

`OFFSET 0` keeps the planner from reordering a join: right after a load it has no statistics, and the reordered join
reads the whole gallery for each row. For the parameters see `search._parameters`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from service.embedding import Metric
from service.gallery.search.plans import SearchPath


class CandidateRow(NamedTuple):
    """A row of a search statement. `ordinal` numbers the probes from 1; `measured` is what the metric's operator gave:
    a distance, or for cosine the negative cosine.
    """

    ordinal: int
    person_id: int
    name: str
    external_id: str | None
    face_id: int
    measured: float


@dataclass(frozen=True)
class StatementShape:
    """What the text of a statement depends on."""

    path: SearchPath
    metric: Metric = "cosine"
    is_coded: bool = True
    is_bounded: bool = False
    is_prefiltered: bool = False
    is_single_reference: bool = False
    is_filtered: bool = False
    has_many_probes: bool = False
    is_mean: bool = False


@lru_cache(maxsize=256)
def statement(form: StatementShape) -> str:
    """The text of the statement, whose rows are `CandidateRow`s."""
    match form.path:
        case SearchPath.ALL:
            return _exact_scan(form)
        case SearchPath.FACES:
            return _by_face_codes(form)
        case SearchPath.PEOPLE:
            return _by_person_codes(form)
        case SearchPath.CHOSEN:
            return _of_chosen_people(form)


@lru_cache(maxsize=2)
def statement_of_one_person(metric: Metric) -> str:
    """The text of the statement that finds the nearest reference of one person, in the same columns."""
    return f"""
    SELECT CAST(1 AS bigint) AS ordinal, person.id, person.name, person.external_id, face.id,
        face.embedding {_OPERATORS[metric]} CAST(%(vectors)s AS halfvec) AS measured
    FROM person CROSS JOIN LATERAL (
        SELECT face.id, face.embedding FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = person.id
        OFFSET 0
    ) AS face
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = %(person)s
    ORDER BY measured, face.id LIMIT 1
    """


_OPERATORS: dict[Metric, str] = {"cosine": "<#>", "euclidean": "<->"}

_ONE_PROBE = """(
        SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
            CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
    ) AS probe"""
_MANY_PROBES = """unnest(
        CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
    ) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)"""


def _exact_scan(form: StatementShape) -> str:
    """Compare every reference in the order of the index. It is the order of people, so that grouping needs no sort."""
    measured = _measured(form)
    bound = f"AND {measured} <= %(max_distance)s" if form.is_bounded else ""
    return f"""
    SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
    FROM {_probes(form)}
    CROSS JOIN LATERAL (
        SELECT face.person_id, min({measured}) AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.code IS {"NOT NULL" if form.is_coded else "NULL"}
            {bound}
        GROUP BY face.person_id ORDER BY measured LIMIT %(limit)s
    ) AS best
    {_reference_and_person(form)}
    """


def _by_face_codes(form: StatementShape) -> str:
    """Compare the references whose code is near the code of the probe."""
    bound = "AND face.code <~> probe.face_code <= %(max_distance)s" if form.is_bounded else ""
    return f"""
    SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
    FROM {_probes(form)}
    CROSS JOIN LATERAL (
        SELECT near.person_id, min(compared.measured) AS measured
        FROM (
            SELECT face.person_id, face.id FROM face
            WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.code IS NOT NULL
                {bound}
            ORDER BY face.code <~> probe.face_code LIMIT %(rerank_limit)s
        ) AS near
        CROSS JOIN LATERAL (
            SELECT {_measured(form)} AS measured FROM face
            WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
                AND face.person_id = near.person_id AND face.id = near.id
            OFFSET 0
        ) AS compared
        GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
    ) AS best
    {_reference_and_person(form)}
    """


def _by_person_codes(form: StatementShape) -> str:
    """Compare the references of people with a template near the probe.

    The bound stands before the sort: a template that it excludes costs 72 ns instead of 122 ns. The filter is checked
    only for templates within the bound.
    """
    max_distance = _CURRENT_MAX_DISTANCE if form.is_single_reference else "%(max_distance)s"
    bound = f"AND template.code <~> probe.code <= {max_distance}" if form.is_bounded else ""
    wanted = _HAS_WANTED_PERSON if form.is_filtered else ""
    people = f"""SELECT DISTINCT nearest.person_id FROM (
                SELECT template.person_id FROM person_template AS template
                WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                    {bound}
                    {wanted}
                ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
            ) AS nearest"""
    near = _faces_within_prefilter(people) if form.is_prefiltered else people
    return f"""
    SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, {_score(form)} AS measured
    FROM {_probes(form)}
    CROSS JOIN LATERAL (
        SELECT near.person_id, min(compared.measured) AS measured
        FROM (
            {near}
        ) AS near
        CROSS JOIN LATERAL (
            {_compared(form, "AND face.id = near.id" if form.is_prefiltered else "")}
        ) AS compared
        GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
    ) AS best
    {_reference_and_person(form)}
    """


def _of_chosen_people(form: StatementShape) -> str:
    """Compare all references of the people that pass the filter, or of all people if there is no filter."""
    wanted = "AND person.metadata @> CAST(%(metadata)s AS jsonb)" if form.is_filtered else ""
    return f"""
    SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, {_score(form)} AS measured
    FROM {_probes(form)}
    CROSS JOIN LATERAL (
        SELECT near.person_id, min(compared.measured) AS measured
        FROM (
            SELECT person.id AS person_id FROM person
            WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                {wanted}
            OFFSET 0
        ) AS near
        CROSS JOIN LATERAL (
            {_compared(form)}
        ) AS compared
        GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
    ) AS best
    {_reference_and_person(form)}
    """


# The counters are read when the statement runs, so that no person is missed who got a second reference after the lookup
# of the gallery.
_CURRENT_MAX_DISTANCE = """(
                        SELECT CASE WHEN sum(size.templates) = sum(size.faces)
                            THEN CAST(%(max_distance_single_reference)s AS double precision)
                            ELSE %(max_distance)s END
                        FROM gallery_size AS size
                        WHERE size.tenant_id = %(tenant)s AND size.gallery_id = %(gallery)s
                    )"""

# OFFSET 0 keeps the planner from making a join of the subquery.
_HAS_WANTED_PERSON = """AND EXISTS (
                        SELECT FROM person
                        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                            AND person.id = template.person_id
                            AND person.metadata @> CAST(%(metadata)s AS jsonb)
                        OFFSET 0
                    )"""


def _probes(form: StatementShape) -> str:
    return _MANY_PROBES if form.has_many_probes else _ONE_PROBE


def _measured(form: StatementShape) -> str:
    return f"face.embedding {_OPERATORS[form.metric]} probe.vector"


def _score(form: StatementShape) -> str:
    return "best.measured" if form.is_mean else "reference.measured"


def _faces_within_prefilter(people: str) -> str:
    """Faces of the people whose own code is near. This reads the index only; one vector in thirty is fetched later."""
    return f"""SELECT people.person_id, prefiltered.id
            FROM (
            {people}
            ) AS people
            CROSS JOIN LATERAL (
                SELECT face.id FROM face
                WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
                    AND face.person_id = people.person_id
                    AND face.code <~> probe.face_code <= %(face_prefilter)s
                OFFSET 0
            ) AS prefiltered"""


def _compared(form: StatementShape, condition: str = "") -> str:
    """The distances of a person's faces, or the mean of the nearest of them."""
    faces = f"""SELECT {_measured(form)} AS measured FROM face
            WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
                AND face.person_id = near.person_id {condition}"""
    if not form.is_mean:
        return f"""{faces}
            OFFSET 0"""
    return f"""SELECT avg(nearest.measured) AS measured
            FROM (
            {faces}
            ORDER BY measured LIMIT %(mean_of)s
            ) AS nearest"""


def _reference_and_person(form: StatementShape) -> str:
    """The nearest reference of each of the best people, and the name."""
    return f"""CROSS JOIN LATERAL (
        SELECT face.id, {_measured(form)} AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
        ORDER BY measured, face.id LIMIT 1
    ) AS reference
    CROSS JOIN LATERAL (
        SELECT person.id, person.name, person.external_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
        OFFSET 0
    ) AS person
    ORDER BY probe.ordinal, measured, person.id"""
