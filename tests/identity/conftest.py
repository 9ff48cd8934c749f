"""The fake encoder, and a gallery of its embedding space."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import Database
from service.database.session import tenant_session
from service.encoder.encoders import Encoders
from service.encoder.opening import open_encoders
from service.gallery.galleries import Gallery, create_gallery
from service.gallery.people import Person, create_person
from service.settings import Settings

OpenSession = Callable[[], AsyncSession]


@pytest.fixture
def open_session(database: Database, tenant_id: int) -> OpenSession:
    """Opens further sessions of the fresh tenant."""
    return lambda: tenant_session(database.engine, tenant_id)


@pytest.fixture(scope="session")
def encoders(settings: Settings) -> Iterator[Encoders]:
    """The fake encoder, loaded."""
    opened = open_encoders(settings)
    yield opened
    opened.close()


@pytest.fixture
async def gallery(session: AsyncSession, encoders: Encoders) -> Gallery:
    """An empty gallery called staff, committed."""
    made = await create_gallery(session, "staff", encoders.default)
    await session.commit()
    return made


@pytest.fixture
async def ada(session: AsyncSession, gallery: Gallery) -> Person:
    """A person without a face, committed."""
    made = await create_person(session, gallery, "Ada")
    await session.commit()
    return made
