"""One request, one transaction: it begins with the first query and is committed before the answer is sent.

FastAPI's default scope would run the code after `yield` once the answer is out, and a failed commit would still
have answered 200; with `scope="function"` it answers 500.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tenancy import tenant_session
from service.http.callers import current_caller
from service.http.service import service_of


async def request_session(request: Request) -> AsyncIterator[AsyncSession]:
    """The caller's session; committed when the route returns, rolled back when it raises."""
    async with tenant_session(service_of(request).database.engine, current_caller(request).tenant_id) as session:
        yield session
        await session.commit()


async def reading_session(request: Request) -> AsyncIterator[AsyncSession]:
    """The caller's session for as long as a streamed answer takes; never committed.

    A stream waits for its turn, so that slow readers never hold every connection of the pool.
    """
    service = service_of(request)
    async with service.streams, tenant_session(service.database.engine, current_caller(request).tenant_id) as session:
        yield session


RequestSession = Annotated[AsyncSession, Depends(request_session, scope="function")]
StreamSession = Annotated[AsyncSession, Depends(reading_session, scope="request")]
