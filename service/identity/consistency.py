"""Consistency of a gallery: unlike references of one person, people who look alike, and people of equal names.

References of one person form groups: two references are in one group if their similarity reaches the gallery's
threshold, directly or through other references. More than one group means that images of somebody else were enrolled
by mistake, or that a reference is too bad to be recognized.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.names import canonical_name
from service.gallery.galleries import Gallery
from service.gallery.people import Person, find_person_named, list_people
from service.gallery.references import PersonVectors, read_vectors, similarities
from service.gallery.search.search import MAXIMUM_PROBES, search
from service.gallery.search.turns import Charge, charge_nothing, search_units

MAXIMUM_COMPARED = 2000
"""References of one person that are compared with each other: the matrix of similarities takes 16 MB then."""


@dataclass(frozen=True)
class UnlikeReference:
    """A reference outside the largest group of its person. `similarity` is that to the nearest reference in it, None
    if it may not be disclosed.
    """

    face_id: str
    similarity: float | None


@dataclass(frozen=True)
class InconsistentPerson:
    """A person with references that are unlike each other."""

    person: Person
    unlike: list[UnlikeReference]


@dataclass(frozen=True)
class LookAlikes:
    """Two people of different names, one of whose references is as similar as references of one person."""

    person: Person
    other_id: str
    other_name: str
    other_external_id: str | None
    similarity: float


@dataclass(frozen=True)
class SameName:
    """Two people whose names, or external ids, differ only in spelling: canonically they are equal."""

    person: Person
    other: Person


@dataclass(frozen=True)
class Consistency:
    """The findings about one page of people. `next_cursor` is None on the last page."""

    people: int
    inconsistent: list[InconsistentPerson]
    look_alikes: list[LookAlikes]
    next_cursor: str | None
    same_names: list[SameName] = field(default_factory=list)


async def unlike_references(session: AsyncSession, gallery: Gallery, person: Person) -> list[UnlikeReference]:
    """The references outside the person's largest group, oldest first."""
    references = (await read_vectors(session, gallery, [person.number], MAXIMUM_COMPARED)).get(person.number)
    return [] if references is None else _unlike(gallery, references)


async def check_people(
    session: AsyncSession,
    gallery: Gallery,
    limit: int = 100,
    cursor: str | None = None,
    *,
    charge: Charge = charge_nothing,
) -> Consistency:
    """Check `limit` people in the order they were added; their look-alikes are searched in the whole gallery.

    `charge`: called before the searches with their cost beyond the first unit.

    Raises Forbidden if the gallery is for verification only: looking for other people is identification.
    """
    gallery.check_identification()
    page = await list_people(session, gallery, limit, cursor)
    await charge(search_units([gallery], sum(min(person.faces, MAXIMUM_COMPARED) for person in page.items)) - 1)
    inconsistent: list[InconsistentPerson] = []
    look_alikes: list[LookAlikes] = []
    same_names: list[SameName] = []
    for person in page.items:  # one person at a time bounds the memory
        if other := await _person_of_equal_name(session, gallery, person):
            same_names.append(SameName(person, other))
        references = (await read_vectors(session, gallery, [person.number], MAXIMUM_COMPARED)).get(person.number)
        if references is None:
            continue
        if unlike := _unlike(gallery, references):
            inconsistent.append(InconsistentPerson(person, unlike))
        look_alikes += await _look_alikes(session, gallery, person, references)
    return Consistency(len(page.items), inconsistent, look_alikes, page.next_cursor, same_names)


async def _person_of_equal_name(session: AsyncSession, gallery: Gallery, person: Person) -> Person | None:
    """The person who has the canonical form of this person's name or external id, if this person has another form.

    Only people who were enrolled before names were stored canonically have another form.
    """
    key = person.name if person.external_id is None else person.external_id
    if key == canonical_name(key):
        return None
    return await find_person_named(session, gallery, person.name, person.external_id)


async def _look_alikes(
    session: AsyncSession, gallery: Gallery, person: Person, references: PersonVectors
) -> list[LookAlikes]:
    """Other people of another name at or above the threshold, most similar first; each once, with its best."""
    best: dict[str, LookAlikes] = {}
    for start in range(0, len(references.vectors), MAXIMUM_PROBES):
        probes = list(references.vectors[start : start + MAXIMUM_PROBES])
        for candidates in await search(session, gallery, probes):
            for other in candidates:
                known = best.get(other.person_id)
                if (
                    other.name != canonical_name(person.name)
                    and other.similarity >= gallery.threshold
                    and (known is None or known.similarity < other.similarity)
                ):
                    best[other.person_id] = LookAlikes(
                        person, other.person_id, other.name, other.external_id, other.similarity
                    )
    return sorted(best.values(), key=lambda pair: -pair.similarity)


def _unlike(gallery: Gallery, references: PersonVectors) -> list[UnlikeReference]:
    matrix = similarities(references.vectors, gallery.space.metric)
    groups = _groups(matrix >= gallery.threshold)
    if groups.max(initial=0) == 0:
        return []
    largest = groups == np.bincount(groups).argmax()
    nearest = matrix[:, largest].max(axis=1)
    return [
        UnlikeReference(face_id, float(nearest[row]))
        for row, face_id in enumerate(references.face_ids)
        if not largest[row]
    ]


def _groups(is_alike: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """The number of each reference's group, counted from 0 in the order of the references."""
    groups = np.full(len(is_alike), -1, dtype=np.intp)
    for first in range(len(is_alike)):
        if groups[first] >= 0:
            continue
        number, waiting = groups.max(initial=-1) + 1, [first]
        while waiting:
            row = waiting.pop()
            groups[row] = number
            fresh = np.flatnonzero(is_alike[row] & (groups < 0))
            groups[fresh] = number
            waiting += fresh.tolist()
    return groups
