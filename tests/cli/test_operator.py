"""`face-identity operator keys`, quotas and rotation: everything that an unattended install needs."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.access.authentication import admit, admit_operator
from service.database.connection import Database
from service.errors import TooManyRequests, Unauthenticated
from tests.cli.conftest import Command

Admit = Callable[[AsyncEngine, str], Awaitable[object]]


def ask(database: Database, admit_: Admit, key: str) -> None:
    """Present a key, in an event loop of its own like the commands."""

    async def present() -> None:
        engine = create_async_engine(database.logins.service)
        try:
            await admit_(engine, key)
        finally:
            await engine.dispose()

    asyncio.run(present())


def test_a_new_operator_key_works_without_questions(bare_command: Command, database: Database) -> None:
    made = bare_command("operator", "keys", "create", "console", "--days", "30", "--json").json
    assert made["expires_at"] is not None
    ask(database, admit_operator, made["key"])
    listed = bare_command("operator", "keys", "list", "--json")
    assert made["id"] in {key["id"] for key in listed.json["items"]}
    assert made["key"] not in listed.out


def test_an_operator_key_can_be_rotated_and_revoked(bare_command: Command, database: Database) -> None:
    old = bare_command("operator", "keys", "create", "--json").json
    new = bare_command("operator", "keys", "rotate", old["id"], "--grace-hours", "1", "--json").json
    for key in (old["key"], new["key"]):
        ask(database, admit_operator, key)
    assert bare_command("operator", "keys", "revoke", new["id"]).code == 0
    with pytest.raises(Unauthenticated):
        ask(database, admit_operator, new["key"])


def test_rotating_a_tenant_key_keeps_its_rate_limits(bare_command: Command, database: Database) -> None:
    tenant = f"tenant-{uuid.uuid4().hex[:12]}"
    bare_command("tenants", "create", tenant, "--json")
    old = bare_command("keys", "create", "door", "-t", tenant, "--requests-per-minute", "2", "--json").json
    new = bare_command("keys", "rotate", old["id"], "-t", tenant, "--grace-hours", "0", "--json").json
    assert new["requests_per_minute"] == 2
    with pytest.raises(Unauthenticated):
        ask(database, admit, old["key"])
    for _ in range(2):
        ask(database, admit, new["key"])
    with pytest.raises(TooManyRequests):
        ask(database, admit, new["key"])


def test_each_quota_can_be_changed_alone_and_zero_removes_it(bare_command: Command) -> None:
    tenant = f"tenant-{uuid.uuid4().hex[:12]}"
    bare_command("tenants", "create", tenant, "--json")
    bare_command("tenants", "quotas", tenant, "--maximum-galleries", "3")
    changed = bare_command("tenants", "quotas", tenant, "--maximum-stored-bytes", "1000000", "--json").json
    assert (changed["quotas"]["maximum_galleries"], changed["quotas"]["maximum_stored_bytes"]) == (3, 1000000)
    bare_command("tenants", "quotas", tenant, "--maximum-galleries", "0")
    used = bare_command("tenants", "usage", tenant, "--json").json
    assert (used["galleries"], used["quotas"]["maximum_galleries"]) == (0, None)


def test_quotas_hold_for_the_command_line(bare_command: Command) -> None:
    tenant = f"tenant-{uuid.uuid4().hex[:12]}"
    bare_command("tenants", "create", tenant, "--json")
    bare_command("tenants", "quotas", tenant, "--maximum-galleries", "1")
    space = ("--embedding-space", "external:test:8", "-t", tenant)
    assert bare_command("galleries", "create", "one", *space).code == 0
    refused = bare_command("galleries", "create", "two", *space)
    assert refused.code == 4
    assert "maximum_galleries" in refused.err
