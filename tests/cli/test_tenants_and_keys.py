"""`tenants` and `keys`: a key is shown once and opens its tenant."""

import asyncio
import uuid

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from service.access.authentication import admit
from service.database.connection import Database
from service.errors import Unauthenticated
from tests.cli.conftest import Command


def scopes_of(database: Database, key: str) -> frozenset[str] | None:
    """Return the scopes of a key, or None if the key opens nothing."""

    async def ask() -> frozenset[str] | None:
        engine = create_async_engine(database.logins.service)
        try:
            return (await admit(engine, key)).scopes
        except Unauthenticated:
            return None
        finally:
            await engine.dispose()

    return asyncio.run(ask())


@pytest.fixture
def name() -> str:
    return f"acme {uuid.uuid4().hex[:8]}"


def test_a_new_tenant_gets_a_key_that_opens_it(bare_command: Command, database: Database, name: str) -> None:
    made = bare_command("tenants", "create", name, "--json").json
    assert made.keys() == {"tenant", "key"}
    assert made["tenant"] == name
    assert "admin" in (scopes_of(database, made["key"]) or ())


def test_a_key_is_shown_once(bare_command: Command, name: str) -> None:
    key = bare_command("tenants", "create", name, "--json").json["key"]
    listed = bare_command("keys", "list", "--tenant", name)
    assert "first key" in listed.out
    as_json = bare_command("keys", "list", "--tenant", name, "--json")
    assert key not in listed.out + as_json.out
    assert [item["created_by"] for item in as_json.json["items"]] == [None]


def test_two_tenants_cannot_have_the_same_name(bare_command: Command, name: str) -> None:
    assert bare_command("tenants", "create", name).code == 0
    assert bare_command("tenants", "create", name).code == 6


def test_a_tenant_is_deleted_only_with_the_option_yes(bare_command: Command, name: str) -> None:
    bare_command("tenants", "create", name)
    assert bare_command("tenants", "delete", name).code == 2
    assert name in bare_command("tenants", "list").out
    assert bare_command("tenants", "delete", name, "--yes").code == 0
    assert name not in bare_command("tenants", "list").out


def test_a_key_has_the_requested_scopes_until_it_is_revoked(command: Command, database: Database) -> None:
    made = command("keys", "create", "door", "--scope", "read", "--scope", "recognize", "--days", "3", "--json").json
    assert made["scopes"] == ["read", "recognize"]
    assert made["expires_at"] is not None
    assert scopes_of(database, made["key"]) == frozenset({"read", "recognize"})
    assert command("keys", "revoke", made["id"]).code == 0
    assert scopes_of(database, made["key"]) is None


def test_an_unknown_scope_is_named(command: Command) -> None:
    done = command("keys", "create", "door", "--scope", "everything")
    assert done.code == 4
    assert "everything" in done.err
