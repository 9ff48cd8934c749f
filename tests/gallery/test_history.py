"""Writers and readers at once: people enrolled before a search are found, and people deleted before it are not.

Eight tasks on eight connections, each with people of its own, record their work; a checker reads the records.
"""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service.database.connection import Database, open_pool
from service.database.session import tenant_session
from service.gallery.faces import NewFace, add_faces, delete_face, merge_people
from service.gallery.galleries import create_gallery, find_gallery
from service.gallery.people import create_person, delete_person
from service.gallery.search.search import search
from tests.support.galleries import Matrix, crowd_of, load, near, space_of

WORKERS = 8
ROUNDS = 12
_ticks = itertools.count()
"""The order of events. A clock could give two events the same time."""


@dataclass
class Life:
    """The life of a face: its embedding, its person, and the ticks at which its deletion began, and after
    which its enrollment and deletion were committed.
    """

    embedding: Matrix
    people: set[str]
    enrolled: float = float("inf")
    deleting: float = float("inf")
    deleted: float = float("inf")


@dataclass
class Sighting:
    """One search for one face: the ticks at which it began and ended, and the name under which the face was found."""

    face: str
    began: float
    ended: float
    is_found: bool
    name: str


@dataclass
class History:
    """The records of all workers."""

    lives: dict[str, Life] = field(default_factory=dict)
    sightings: list[Sighting] = field(default_factory=list)

    def anomalies(self) -> list[str]:
        """Return the sightings that no order of the committed writes explains."""
        wrong = []
        for seen in self.sightings:
            life = self.lives[seen.face]
            if not seen.is_found and life.enrolled < seen.began and life.deleting > seen.ended:
                wrong.append(f"{seen.face} was enrolled and not found")
            if seen.is_found and life.deleted < seen.began:
                wrong.append(f"{seen.face} was deleted and found")
            if seen.is_found and seen.name not in life.people:
                wrong.append(f"{seen.face} was found as {seen.name}")
        return wrong


class Worker:
    """Enrolls, searches, merges and deletes people; also searches for the people of all other workers."""

    def __init__(self, number: int, database_engine: AsyncEngine, tenant_id: int, history: History) -> None:
        self._number = number
        self._open: Callable[[], AsyncSession] = lambda: tenant_session(database_engine, tenant_id)
        self._history = history
        self._random = np.random.default_rng(number)

    async def run(self) -> None:
        for turn in range(ROUNDS):
            face = await self._enroll(turn)
            await self._look(face)
            for other in self._random.choice(sorted(self._history.lives), 2):
                await self._look(str(other))
            if turn % 3 != 2:
                await self._delete(face, whole_person=turn % 3 == 0)
                await self._look(face)

    async def _enroll(self, turn: int) -> str:
        embedding = crowd_of(1, 1, seed=1000 + self._number * ROUNDS + turn).embeddings[0]
        name = f"worker {self._number} turn {turn}"
        async with self._open() as session:
            gallery = await find_gallery(session, "crowd")
            person = await create_person(session, gallery, name)
            (face,) = await add_faces(session, gallery, person, [NewFace(embedding)])
            life = self._history.lives[face.id] = Life(embedding, {name})
            await session.commit()
        life.enrolled = next(_ticks)
        if turn % 4 == 3:  # the person is found to be an existing person, or has two names for a while
            async with self._open() as session:
                other = await create_person(session, gallery, f"{name} again")
                life.people.add(other.name)
                person = await merge_people(session, gallery, person, other)
                await session.commit()
        self._person = person
        return face.id

    async def _delete(self, face: str, *, whole_person: bool) -> None:
        life = self._history.lives[face]
        life.deleting = next(_ticks)
        async with self._open() as session:
            gallery = await find_gallery(session, "crowd")
            if whole_person:
                await delete_person(session, gallery, self._person.id)
            else:
                await delete_face(session, gallery, self._person, face)
            await session.commit()
        life.deleted = next(_ticks)

    async def _look(self, face: str) -> None:
        probe = near(self._history.lives[face].embedding, 0.5, int(self._random.integers(1 << 30)))
        began = next(_ticks)
        async with self._open() as session:
            (found,) = await search(session, await find_gallery(session, "crowd"), [probe])
        by_face = {candidate.face_id: candidate.name for candidate in found}
        self._history.sightings.append(Sighting(face, began, next(_ticks), face in by_face, by_face.get(face, "")))


@pytest.mark.parametrize("people", [10, 1500])
async def test_enrolled_people_are_found_and_deleted_people_are_not_while_others_write(
    database: Database, tenant_id: int, people: int
) -> None:
    engine = open_pool(database.logins.service, WORKERS)
    async with tenant_session(engine, tenant_id) as session:
        gallery = await create_gallery(session, "crowd", space_of())
        await load(session, gallery, crowd_of(people, 2).rows())
        await session.commit()
    history = History()
    await asyncio.gather(*(Worker(number, engine, tenant_id, history).run() for number in range(WORKERS)))
    async with tenant_session(engine, tenant_id) as session:
        found = await find_gallery(session, "crowd")
    await engine.dispose()
    assert len(history.sightings) >= WORKERS * ROUNDS * 3
    assert history.anomalies() == []
    kept = sum(life.deleting == float("inf") for life in history.lives.values())
    assert found.faces == 2 * people + kept


def test_the_checker_reports_lost_resurrected_and_mistaken_faces() -> None:
    life = Life(np.ones(512, np.float32), {"Ada"}, enrolled=1.0, deleting=5.0, deleted=6.0)
    lost = Sighting("face", 2.0, 3.0, False, "")
    kept = Sighting("face", 7.0, 8.0, True, "Ada")
    wrong = Sighting("face", 2.0, 3.0, True, "Eve")
    fine = [
        Sighting("face", 0.5, 0.9, False, ""),
        Sighting("face", 4.0, 5.5, False, ""),
        Sighting("face", 5.5, 7, True, "Ada"),
    ]
    assert len(History({"face": life}, [lost, kept, wrong, *fine]).anomalies()) == 3
