"""One request, one transaction: it begins with the first write and is committed before the answer is sent.

The route commits, not a dependency: FastAPI is slow with a dependency that has work to do after the answer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from starlette.responses import Response

from service.access.operator import operator_transaction
from service.database.session import tenant_session
from service.http.callers import current_caller
from service.http.state import server_state


async def request_session(request: Request) -> AsyncSession:
    """The caller's session. `answer_and_commit` ends it."""
    session = tenant_session(server_state(request).database.engine, current_caller(request).tenant_id)
    request.state.session = session
    return session


async def answer_and_commit(request: Request, answer: Awaitable[Response]) -> Response:
    """The result of `answer`, after the session's writes are committed. If it raises, they are rolled back."""
    try:
        response = await answer
        if begun := _begun_session(request):
            await begun.commit()
    except BaseException:
        if begun := _begun_session(request):
            await asyncio.shield(asyncio.ensure_future(begun.close()))
        raise
    return response


def _begun_session(request: Request) -> AsyncSession | None:
    """The request's session, if it has anything to end."""
    session: AsyncSession | None = getattr(request.state, "session", None)
    return session if session is not None and session.in_transaction() else None


async def reading_session(request: Request) -> AsyncIterator[AsyncSession]:
    """The caller's session for a streamed answer. It is never committed, and holds no connection between two readings.

    Raises TooManyRequests if the tenant has too many streams in progress.
    """
    state, tenant_id = server_state(request), current_caller(request).tenant_id
    with state.streams.one_of(tenant_id):
        async with tenant_session(state.database.engine, tenant_id) as session:
            yield session


async def operator_connection(request: Request) -> AsyncIterator[AsyncConnection]:
    """The operator's transaction. It is committed when the route returns, and rolled back if the route raises.

    The default scope of a FastAPI dependency would commit after the answer is sent, so that a failed commit would still
    have answered 200.
    """
    async with operator_transaction(server_state(request).database.engine) as connection:
        yield connection


RequestSession = Annotated[AsyncSession, Depends(request_session)]
StreamSession = Annotated[AsyncSession, Depends(reading_session, scope="request")]
OperatorTransaction = Annotated[AsyncConnection, Depends(operator_connection, scope="function")]
