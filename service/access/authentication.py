"""Authentication: from the key in a request to its caller, with rate limits charged, in one round trip.

The functions `admit_v2`, `charge_v2` and `admit_operator_v1` of the database (database/schema/functions) run as the
service role under the policies. Nothing is cached here: a revoked key is refused at the next request, and rate limits
hold across server processes.
"""

import hmac
import math
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from service.access.key_format import read_key, read_operator_key
from service.access.quotas import CostClass, RateLimits
from service.database.statements import fetch_row
from service.errors import TooManyRequests, Unauthenticated
from service.turns import act_for

_ADMIT = "SELECT * FROM admit_v2(%(tenant)s, %(digest)s, %(cost_class)s, 1)"
_ADMIT_OPERATOR = "SELECT * FROM admit_operator_v1(%(digest)s)"
_CHARGE = "SELECT charge_v2(%(tenant)s, %(key)s, %(cost_class)s, %(amount)s) AS wait_seconds"
NO_KEY = 0
"""No key has this number. A caller without a key has the rate limits of its tenant only."""
_REFUSAL = "the API key is unknown, expired or revoked"


@dataclass(frozen=True)
class Caller:
    """An authenticated caller: a tenant, and the key that it used."""

    tenant_id: int
    key_id: int
    scopes: frozenset[str]
    galleries: frozenset[str] | None = None
    """Names of the galleries that the key may use. None: all."""
    rates: RateLimits = field(default_factory=RateLimits)
    """Rate limits of the key, besides those of the tenant."""


@dataclass(frozen=True)
class Operator:
    """The platform's operator, with the operator key that it used."""

    key_id: int


async def admit(engine: AsyncEngine, key: str, cost_class: CostClass = "request") -> Caller:
    """Authenticate a key and charge one request. Raises Unauthenticated for an invalid key, TooManyRequests over a rate
    limit.
    """
    presented = read_key(key)
    if presented is None:
        raise Unauthenticated("not an API key of this service")
    act_for(presented.tenant_id)  # the lookup waits for its turn beside this tenant's other work
    values = {"tenant": presented.tenant_id, "digest": presented.digest, "cost_class": cost_class}
    row = await fetch_row(engine, _ADMIT, values)
    if row is None or not hmac.compare_digest(row.digest, presented.digest):
        raise Unauthenticated(_REFUSAL)
    _check_wait(row.wait_seconds, cost_class)
    return Caller(
        tenant_id=presented.tenant_id,
        key_id=row.key_id,
        scopes=frozenset(row.scopes),
        galleries=None if row.galleries is None else frozenset(row.galleries),
        rates=RateLimits(row.requests_per_minute, row.inferences_per_minute),
    )


async def charge(engine: AsyncEngine, caller: Caller, cost_class: CostClass, amount: int) -> None:
    """Charge more units of a cost class, for the second and further images of one request."""
    if amount > 0:
        values = {"tenant": caller.tenant_id, "key": caller.key_id, "cost_class": cost_class, "amount": amount}
        row = await fetch_row(engine, _CHARGE, values)
        _check_wait(row.wait_seconds if row else None, cost_class)


async def give_back(engine: AsyncEngine, caller: Caller, cost_class: CostClass, amount: int) -> None:
    """Take back a charge, for work that the server has refused. A negative charge moves the allowance backwards."""
    values = {"tenant": caller.tenant_id, "key": caller.key_id, "cost_class": cost_class, "amount": -amount}
    await fetch_row(engine, _CHARGE, values)


async def admit_operator(engine: AsyncEngine, key: str) -> Operator:
    """Authenticate an operator key. Raises Unauthenticated for an invalid one."""
    digest = read_operator_key(key)
    if digest is None:
        raise Unauthenticated("not an operator key of this service")
    row = await fetch_row(engine, _ADMIT_OPERATOR, {"digest": digest})
    if row is None or not hmac.compare_digest(row.digest, digest):
        raise Unauthenticated(_REFUSAL)
    return Operator(row.key_id)


def _check_wait(wait_seconds: float | None, cost_class: CostClass) -> None:
    if wait_seconds is not None:
        seconds = max(1, math.ceil(wait_seconds))
        raise TooManyRequests(f"rate limit exceeded for the cost class {cost_class!r}", retry_after_seconds=seconds)
