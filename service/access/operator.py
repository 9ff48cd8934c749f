"""Transactions of the platform operator: they see tenants and operator keys, and no tenant's data.

The service role may take the operator role for one transaction. That role has policies on `tenant` and `operator_key`
only, so it sees no gallery, person, face, job or key of any tenant.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.database.types import OPERATOR_ROLE


@asynccontextmanager
async def operator_transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction of the operator, committed at the end."""
    async with engine.begin() as connection:
        await act_as_operator(connection)
        yield connection


async def act_as_operator(connection: AsyncConnection) -> None:
    """Switch the transaction to the operator role."""
    await connection.execute(text(f"SET LOCAL ROLE {OPERATOR_ROLE}"))
