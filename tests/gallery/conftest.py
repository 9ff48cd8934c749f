"""Galleries for every search plan, loaded once for the tests of search."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import Database
from service.database.session import tenant_session
from service.embedding import EmbeddingSpace
from service.gallery.bulk_writing import finish_load
from service.gallery.galleries import Gallery
from service.gallery.search.plans import SearchPath
from tests.conftest import new_tenant
from tests.support.galleries import Crowd, crowd_of, differing_crowd, gallery_of, space_of, unit


@dataclass(frozen=True)
class Case:
    """A crowd, its gallery, and the expected plan of a search for five people in it."""

    crowd: Crowd
    gallery: Gallery
    path: SearchPath
    is_bounded: bool


def _crowds() -> dict[str, tuple[Crowd, EmbeddingSpace, SearchPath, bool]]:
    plain = crowd_of(300, 5, 128)
    off_center = replace(plain, embeddings=(unit(plain.embeddings) * 0.3 + 0.1).astype(np.float32))
    return {
        "small": (crowd_of(40, 5), space_of(), SearchPath.ALL, False),
        "middle": (crowd_of(700, 5), space_of(), SearchPath.PEOPLE, True),
        "large": (crowd_of(6500, 1), space_of(), SearchPath.PEOPLE, True),
        "differing": (differing_crowd(600), space_of(), SearchPath.PEOPLE, True),
        "many references": (crowd_of(30, 300, closeness=0.85), space_of(), SearchPath.FACES, True),
        "256 dimensions": (crowd_of(1000, 3, 256), space_of(256), SearchPath.PEOPLE, True),
        "128 dimensions": (crowd_of(300, 5, 128), space_of(128), SearchPath.ALL, True),
        "euclidean": (off_center, space_of(128, "euclidean"), SearchPath.ALL, False),
        "7 dimensions": (crowd_of(20, 3, 7), space_of(7), SearchPath.ALL, False),
    }


@pytest.fixture(scope="session")
async def crowds(database: Database) -> dict[str, Case]:
    """One gallery for each case, all of one tenant."""
    tenant_id = await new_tenant(database)
    cases = {}
    async with tenant_session(database.engine, tenant_id) as session:
        for name, (crowd, space, path, is_bounded) in _crowds().items():
            cases[name] = Case(crowd, await gallery_of(session, crowd, space, name), path, is_bounded)
        await session.commit()
    await finish_load(database.engine)
    return cases


@pytest.fixture
async def crowded(database: Database, crowds: dict[str, Case]) -> AsyncIterator[AsyncSession]:
    """A session of the tenant that has the crowds. It is rolled back at the end."""
    async with tenant_session(database.engine, crowds["small"].gallery.tenant_id) as session:
        yield session
