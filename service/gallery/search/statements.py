# ruff: noqa: S608 - every piece of these statements is written in this file
"""The SQL of every search plan, composed from a few fragments. Each statement has one query plan, which tests hold.

`OFFSET 0` keeps the planner from turning a join round: right after a load it has no statistics, and the turned join
reads the whole gallery for each row. Every statement names the tenant besides the policy. For the parameters see
`search._parameters`.
"""

from dataclasses import dataclass
from functools import lru_cache

from service.embedding import Metric
from service.gallery.search.plans import SearchPath


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


_OPERATORS: dict[Metric, str] = {"cosine": "<#>", "euclidean": "<->"}
_ONE_PROBE = """(SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code) AS probe"""
_MANY_PROBES = """unnest(CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[]))
        WITH ORDINALITY AS probe (vector, code, face_code, ordinal)"""
_IN_GALLERY = "{table}.tenant_id = %(tenant)s AND {table}.gallery_id = %(gallery)s"
# Reads the counters when the statement runs: a person who got a second reference since the lookup of the gallery is not
# missed.
_CURRENT_MAX_DISTANCE = f"""
    SELECT CASE WHEN sum(size.templates) = sum(size.faces)
        THEN CAST(%(max_distance_single_reference)s AS double precision)
        ELSE %(max_distance)s END FROM gallery_size AS size WHERE {_IN_GALLERY.format(table="size")}
"""
_IS_WANTED = "person.metadata @> CAST(%(metadata)s AS jsonb)"


@lru_cache(maxsize=256)
def statement(form: StatementShape) -> str:
    """The text of the statement. Rows: ordinal of the probe, person, name, external id, face, distance."""
    measured = f"face.embedding {_OPERATORS[form.metric]} probe.vector"
    return f"""
    SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, {_score(form)} AS measured
    FROM {_MANY_PROBES if form.has_many_probes else _ONE_PROBE}
    CROSS JOIN LATERAL ({_best(form, measured)}) AS best
    CROSS JOIN LATERAL (
        SELECT face.id, {measured} AS measured FROM face
        WHERE {_in_gallery("face")} AND face.person_id = best.person_id
        ORDER BY measured, face.id LIMIT 1
    ) AS reference
    CROSS JOIN LATERAL (
        SELECT person.id, person.name, person.external_id FROM person
        WHERE {_in_gallery("person")} AND person.id = best.person_id OFFSET 0
    ) AS person
    ORDER BY probe.ordinal, measured, person.id
    """


def _score(form: StatementShape) -> str:
    return "best.measured" if form.is_mean else "reference.measured"


def _best(form: StatementShape, measured: str) -> str:
    """The nearest people, each with the score of the person."""
    if form.path is SearchPath.ALL:
        return _best_of_all(form, measured)
    near = {SearchPath.FACES: _near_faces, SearchPath.PEOPLE: _near_people, SearchPath.CHOSEN: _chosen_people}[
        form.path
    ](form)
    one_face = "AND face.id = near.id" if form.path is SearchPath.FACES or form.is_prefiltered else ""
    faces = f"""SELECT {measured} AS measured FROM face
        WHERE {_in_gallery("face")} AND face.person_id = near.person_id {one_face}"""
    compared = _mean_of_nearest(faces) if form.is_mean else f"{faces} OFFSET 0"
    if form.is_prefiltered:
        near = _prefiltered(near)
    return f"""
        SELECT near.person_id, min(compared.measured) AS measured
        FROM ({near}) AS near CROSS JOIN LATERAL ({compared}) AS compared
        GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
    """


def _mean_of_nearest(faces: str) -> str:
    """The mean distance of a person's nearest faces."""
    return f"""SELECT avg(nearest.measured) AS measured
        FROM ({faces} ORDER BY 1 LIMIT %(mean_of)s) AS nearest"""


def _best_of_all(form: StatementShape, measured: str) -> str:
    """In the order of the index, which is the order of people, so that grouping needs no sort."""
    bound = f"AND {measured} <= %(max_distance)s" if form.is_bounded else ""
    return f"""
        SELECT face.person_id, min({measured}) AS measured FROM face
        WHERE {_in_gallery("face")} AND face.code IS {"NOT NULL" if form.is_coded else "NULL"} {bound}
        GROUP BY face.person_id ORDER BY measured LIMIT %(limit)s
    """


def _near_people(form: StatementShape) -> str:
    # The bound stands before the sort: a template that it excludes costs 72 ns instead of 122 ns.
    max_distance = f"({_CURRENT_MAX_DISTANCE})" if form.is_single_reference else "%(max_distance)s"
    bound = f"AND template.code <~> probe.code <= {max_distance}" if form.is_bounded else ""
    return f"""
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE {_in_gallery("template")} {bound} {_filter(form, "template")}
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    """


def _prefiltered(people: str) -> str:
    """Faces of the people found whose own code is near. It reads the index alone, and fetches one vector in thirty."""
    return f"""
        SELECT people.person_id, sieved.id FROM ({people}) AS people CROSS JOIN LATERAL (
            SELECT face.id FROM face
            WHERE {_in_gallery("face")} AND face.person_id = people.person_id
                AND face.code <~> probe.face_code <= %(face_prefilter)s OFFSET 0
        ) AS sieved
    """


def _near_faces(form: StatementShape) -> str:
    bound = "AND face.code <~> probe.face_code <= %(max_distance)s" if form.is_bounded else ""
    return f"""
        SELECT face.person_id, face.id FROM face
        WHERE {_in_gallery("face")} AND face.code IS NOT NULL {bound}
        ORDER BY face.code <~> probe.face_code LIMIT %(rerank_limit)s
    """


def _chosen_people(form: StatementShape) -> str:
    wanted = f"AND {_IS_WANTED}" if form.is_filtered else ""
    return f"SELECT person.id AS person_id FROM person WHERE {_in_gallery('person')} {wanted} OFFSET 0"


def _filter(form: StatementShape, table: str) -> str:
    """Checked only for templates within the bound. OFFSET 0 keeps the planner from making a join of it."""
    if not form.is_filtered:
        return ""
    return f"""AND EXISTS (
        SELECT FROM person WHERE {_in_gallery("person")} AND person.id = {table}.person_id AND {_IS_WANTED} OFFSET 0
    )"""


def _in_gallery(table: str) -> str:
    return _IN_GALLERY.format(table=table)


ONE_PERSON = {
    metric: f"""
    SELECT CAST(1 AS bigint), person.id, person.name, person.external_id, face.id,
        face.embedding {operator} CAST(%(vectors)s AS halfvec) AS measured
    FROM person CROSS JOIN LATERAL (
        SELECT face.id, face.embedding FROM face WHERE {_in_gallery("face")} AND face.person_id = person.id OFFSET 0
    ) AS face
    WHERE {_in_gallery("person")} AND person.id = %(person)s
    ORDER BY measured, face.id LIMIT 1
    """
    for metric, operator in _OPERATORS.items()
}
"""The nearest reference of one person, in the same columns."""
