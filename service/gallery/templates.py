"""Templates of a person: means of references, as many as needed for every reference to be close to one of them.

They change in the transaction that changes the references. The candidate step of large galleries reads only them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.binary import big_integers, bit_strings
from service.gallery.codes import has_codes, template_codes
from service.gallery.galleries import Gallery
from service.gallery.references import read_vectors

CLOSE = 0.8
"""Minimum cosine of a reference to the template that represents it."""

_MOST_MEANS = 8
_ROUNDS = 3

Matrix = npt.NDArray[np.float32]
"""Embeddings of unit length, shape (count, dimension)."""


_DELETE_TEMPLATES = text("""
    DELETE FROM person_template
    WHERE tenant_id = :tenant AND gallery_id = :gallery AND person_id = ANY (CAST(:people AS bigint[]))
""")
_INSERT_TEMPLATES = text("""
    INSERT INTO person_template (tenant_id, gallery_id, person_id, code)
    SELECT :tenant, :gallery, person_id, code
    FROM unnest(CAST(:people AS bigint[]), CAST(:codes AS varbit[])) AS template (person_id, code)
""")


async def renew_templates(session: AsyncSession, gallery: Gallery, people: Sequence[int]) -> int:
    """Make the templates of these people again from their references, and return by how many the number changed.

    The caller holds the lock on the people (`people.lock_people`).
    """
    if not has_codes(gallery.space) or not people:
        return 0
    keys = {"tenant": gallery.tenant_id, "gallery": gallery.id, "people": big_integers(people)}
    references = await read_vectors(session, gallery, people)
    deleted = (await session.execute(_DELETE_TEMPLATES, keys)).rowcount  # type: ignore[attr-defined]
    made = await add_templates(session, gallery, {person: stored.vectors for person, stored in references.items()})
    return made - int(deleted)


async def add_templates(session: AsyncSession, gallery: Gallery, references: Mapping[int, Matrix]) -> int:
    """Store templates of people who have none, from all their references, and return their number."""
    if not has_codes(gallery.space) or not references:
        return 0
    templates = {person: templates_of(rows) for person, rows in references.items()}
    people = [person for person, rows in templates.items() for _ in rows]
    codes = template_codes(np.concatenate(list(templates.values())))
    # Two means of one person with equal codes are one template: the code is the key.
    keys = [(person, code.tobytes()) for person, code in zip(people, codes, strict=True)]
    indexes = sorted({key: index for index, key in enumerate(keys)}.values())
    values = {
        "tenant": gallery.tenant_id,
        "gallery": gallery.id,
        "people": big_integers([people[index] for index in indexes]),
        "codes": bit_strings(codes[indexes]),
    }
    await session.execute(_INSERT_TEMPLATES, values)
    return len(indexes)


def templates_of(references: Matrix) -> Matrix:
    """Means such that every reference has a cosine of at least CLOSE to one of them, shape (templates, dimension)."""
    means = _unit(references.mean(axis=0, keepdims=True))
    while True:
        closeness = (references @ means.T).max(axis=1)
        if closeness.min() >= CLOSE:
            return means
        if len(means) == _MOST_MEANS:
            return np.concatenate([means, _leaders(references[closeness < CLOSE])])
        means = _settle(references, np.concatenate([means, references[[closeness.argmin()]]]))


def _settle(references: Matrix, means: Matrix) -> Matrix:
    """A few rounds of spherical k-means. A mean without a nearest reference is dropped."""
    for _ in range(_ROUNDS):
        nearest = (references @ means.T).argmax(axis=1)
        means = np.concatenate(
            [_unit(references[nearest == group].mean(axis=0, keepdims=True)) for group in np.unique(nearest)]
        )
    return means


def _leaders(references: Matrix) -> Matrix:
    """References such that every other one is close to one of them, for people without a useful mean."""
    chosen: list[Matrix] = []
    remaining = references
    while len(remaining):
        chosen.append(remaining[:1])
        remaining = remaining[remaining @ remaining[0] < CLOSE]
    return np.concatenate(chosen)


def _unit(rows: Matrix) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
