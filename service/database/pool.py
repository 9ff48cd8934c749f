"""The connection pool: tenants that wait for a connection take turns, and none of them holds the whole pool.

SQLAlchemy's pool lends connections in the order of arrival, so that one tenant's searches would keep everybody else
waiting. Every way to a connection leads through `_do_get`, which SQLAlchemy's own pools override for that purpose; a
semaphore around each use would miss some. The cost is a look at a context variable and two counters for each use.
"""

from typing import Any

from sqlalchemy import Engine, exc
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util import await_only

from service.turns import Turns, acting_tenant

_TENANT = "tenant that borrowed the connection"
BATCH_SHARE = 4
"""Slices of big batches run on a quarter of the connections at one time."""


def usual_most_of_one(connections: int) -> int:
    """The connections that one tenant may hold if no setting says it: all but a quarter, but at least one.

    The rest is enough for the short statements of the other tenants. A tenant alone on a server hardly misses it:
    PostgreSQL has fewer processors than that, or the server process is busy with the answers.
    """
    return max(1, connections - max(1, connections // 4)) if connections > 1 else 1


class FairPool(AsyncAdaptedQueuePool):
    """A pool whose connections go round the tenants. `most_of_one` is the largest number that one tenant holds."""

    # Not keyword-only: `create_engine` finds out by the names of the positional arguments which options a pool takes.
    def __init__(self, creator: Any, most_of_one: int, **options: Any) -> None:
        super().__init__(creator, **options)
        self.turns = Turns(self.size(), most_of_one)
        share = max(1, self.size() // BATCH_SHARE)
        self.batch_turns = Turns(share, share)
        """Places for slices of big batches, because each keeps a processor of the database busy."""

    def recreate(self) -> "FairPool":
        """A new pool like this one. SQLAlchemy calls it when the engine is disposed of, or has lost its connections."""
        return type(self)(
            self._creator,
            self.turns.most_of_one,
            pool_size=self.size(),
            max_overflow=self._max_overflow,
            pre_ping=self._pre_ping,
            timeout=self.timeout(),
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )

    def _do_get(self) -> ConnectionPoolEntry:
        """Lend a connection, in turn. There is one for each place, so that the pool itself never waits."""
        tenant = acting_tenant()
        if not self.turns.enter_now(tenant):
            try:
                await_only(self.turns.enter(tenant, self.timeout()))
            except TimeoutError:
                raise exc.TimeoutError("no database connection was free in time") from None
        try:
            entry = super()._do_get()
        except BaseException:
            self.turns.leave(tenant)
            raise
        _info(entry)[_TENANT] = tenant
        return entry

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        tenant = _info(record).pop(_TENANT, None)
        try:
            super()._do_return_conn(record)
        finally:
            if tenant is not None:
                self.turns.leave(tenant)


def _info(entry: ConnectionPoolEntry) -> dict[Any, Any]:
    """The notes about a connection of the pool. Only connections outside of a pool have none."""
    info: Any = entry.record_info
    noted: dict[Any, Any] = info
    return noted


def batch_turns(engine: Engine) -> Turns | None:
    """The places for slices of big batches. None for an engine with another pool."""
    return engine.pool.batch_turns if isinstance(engine.pool, FairPool) else None
