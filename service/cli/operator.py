"""`face-identity operator keys`: the keys of the platform's operator, for `/v1/operator` and unattended installs."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from service.access.operator import operator_transaction
from service.access.operator_keys import (
    OperatorKeySummary,
    create_operator_key,
    list_operator_keys,
    revoke_operator_key,
    rotate_operator_key,
)
from service.cli.context import asynchronous, open_migrated, read_settings
from service.cli.keys import Days, Hours, KeyId
from service.cli.output import Json, remark, write_json, write_line, write_table

application = typer.Typer(help="The platform operator's own keys.")
keys = typer.Typer(help="Create, list, rotate and revoke the operator's keys.")
application.add_typer(keys, name="keys", no_args_is_help=True)


@keys.command()
@asynchronous
async def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")] = "operator",
    *,
    days: Days = None,
    as_json: Json = False,
) -> None:
    """Create an operator's key and show it this once."""
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    async with open_migrated(read_settings()) as database, operator_transaction(database.engine) as connection:
        summary, key = await create_operator_key(connection, name, expires_at)
    _show(summary, key, as_json)


@keys.command("list")
@asynchronous
async def list_all(as_json: Json = False) -> None:
    """List the operator's keys, without the keys themselves."""
    async with open_migrated(read_settings()) as database, operator_transaction(database.engine) as connection:
        found = await list_operator_keys(connection)
    if as_json:
        write_json({"items": [asdict(key) for key in found]})
        return
    rows = [(key.id, key.name, key.hint, key.expires_at, key.revoked_at, key.last_used_at) for key in found]
    write_table(["id", "name", "begins with", "expires", "revoked", "last used"], rows, "There is no operator's key.")


@keys.command()
@asynchronous
async def rotate(key_id: KeyId, grace_hours: Hours = 24.0, as_json: Json = False) -> None:
    """Create a key's successor; the old key ends after the grace, until then both work."""
    async with open_migrated(read_settings()) as database, operator_transaction(database.engine) as connection:
        summary, key = await rotate_operator_key(connection, key_id, timedelta(hours=grace_hours))
    _show(summary, key, as_json)


@keys.command()
@asynchronous
async def revoke(key_id: KeyId, as_json: Json = False) -> None:
    """End an operator's key; the next request with it is refused."""
    async with open_migrated(read_settings()) as database, operator_transaction(database.engine) as connection:
        summary = await revoke_operator_key(connection, key_id)
    if as_json:
        write_json(asdict(summary))
        return
    write_line(f"Operator's key {summary.id} ({summary.name}) is revoked.")


def _show(summary: OperatorKeySummary, key: str, as_json: bool) -> None:
    if as_json:
        write_json({"key": key} | asdict(summary))
        return
    write_line(f"id      {summary.id}\nkey     {key}")
    remark("The key is shown this once; only its hash is stored.")
