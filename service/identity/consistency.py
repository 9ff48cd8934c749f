"""Consistency of a gallery: references of one person that are unlike each other, and people who look alike.

References of one person form groups: two references are in one group if their similarity reaches the gallery's
threshold, directly or through other references. More than one group means that images of somebody else were enrolled
by mistake, or that a reference is too bad to be recognized.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from service.gallery.galleries import Gallery
from service.gallery.people import Person, list_people
from service.gallery.references import PersonVectors, read_vectors, similarities
from service.gallery.search.search import MAXIMUM_PROBES, search

MAXIMUM_COMPARED = 2000
"""References of one person that are compared with each other: the matrix of similarities takes 16 MB then."""


@dataclass(frozen=True)
class UnlikeReference:
    """A reference outside the largest group of its person. `similarity` is that to the nearest reference in it."""

    face_id: str
    similarity: float


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
class Consistency:
    """The findings about one page of people. `next_cursor` is None on the last page."""

    people: int
    inconsistent: list[InconsistentPerson]
    look_alikes: list[LookAlikes]
    next_cursor: str | None


async def unlike_references(session: AsyncSession, gallery: Gallery, person: Person) -> list[UnlikeReference]:
    """The references outside the person's largest group, oldest first."""
    references = (await read_vectors(session, gallery, [person.number], MAXIMUM_COMPARED)).get(person.number)
    return [] if references is None else _unlike(gallery, references)


async def check_people(
    session: AsyncSession, gallery: Gallery, limit: int = 100, cursor: str | None = None
) -> Consistency:
    """Check `limit` people in the order they were added; their look-alikes are searched in the whole gallery.

    Raises Forbidden if the gallery is for verification only: looking for other people is identification.
    """
    gallery.check_identification()
    page = await list_people(session, gallery, limit, cursor)
    inconsistent: list[InconsistentPerson] = []
    look_alikes: list[LookAlikes] = []
    for person in page.items:  # one person at a time bounds the memory
        references = (await read_vectors(session, gallery, [person.number], MAXIMUM_COMPARED)).get(person.number)
        if references is None:
            continue
        if unlike := _unlike(gallery, references):
            inconsistent.append(InconsistentPerson(person, unlike))
        look_alikes += await _look_alikes(session, gallery, person, references)
    return Consistency(len(page.items), inconsistent, look_alikes, page.next_cursor)


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
                    other.name != person.name
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
