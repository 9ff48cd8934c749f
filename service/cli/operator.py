"""`face-identity operator keys`: the API keys of the platform operator, for `/v1/operator`."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.context import asynchronous, open_migrated, read_settings
from service.cli.keys import SHOWN_ONCE, Days, Hours, KeyId
from service.cli.options import Cursor, Limit, tell_next_page
from service.cli.output import Json, remark, write_json, write_line, write_table

if TYPE_CHECKING:
    from service.access.keys import OperatorKeySummary

application = typer.Typer(help="The platform operator's own keys.")
keys = typer.Typer(help="Create, list, rotate and revoke the operator's keys.")
application.add_typer(keys, name="keys", no_args_is_help=True)


@keys.command()
@asynchronous
async def create(
    name: Annotated[str, typer.Argument(help="The purpose of the key.")] = "operator",
    *,
    days: Days = None,
    as_json: Json = False,
) -> None:
    """Create an operator key and show it once."""
    from service.access.keys import create_operator_key
    from service.access.operator import operator_transaction

    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    async with open_migrated(read_settings()) as database, operator_transaction(database.engine) as connection:
        summary, key = await create_operator_key(connection, name, expires_at)
    _show(summary, key, as_json)


@keys.command("list")
@asynchronous
async def list_all(limit: Limit = 100, cursor: Cursor = None, as_json: Json = False) -> None:
    """List the operator keys, without their secrets."""
    from service.access.keys import list_operator_keys
    from service.access.operator import operator_transaction

    async with open_migrated(read_settings()) as database, operator_transaction(database.engine) as connection:
        page = await list_operator_keys(connection, limit, cursor)
    if as_json:
        write_json({"items": [asdict(key) for key in page.items], "next_cursor": page.next_cursor})
        return
    rows = [(key.id, key.name, key.hint, key.expires_at, key.revoked_at, key.last_used_at) for key in page.items]
    write_table(["id", "name", "begins with", "expires", "revoked", "last used"], rows, "There are no operator keys.")
    tell_next_page(page)


@keys.command()
@asynchronous
async def rotate(key_id: KeyId, grace_hours: Hours = 24.0, as_json: Json = False) -> None:
    """Create the successor of a key; both work until the grace period of the old key ends."""
    from service.access.keys import rotate_operator_key
    from service.access.operator import operator_transaction

    async with open_migrated(read_settings()) as database, operator_transaction(database.engine) as connection:
        summary, key = await rotate_operator_key(connection, key_id, timedelta(hours=grace_hours))
    _show(summary, key, as_json)


@keys.command()
@asynchronous
async def revoke(key_id: KeyId, as_json: Json = False) -> None:
    """Revoke an operator key; the next request with it is refused."""
    from service.access.keys import revoke_operator_key
    from service.access.operator import operator_transaction

    async with open_migrated(read_settings()) as database, operator_transaction(database.engine) as connection:
        summary = await revoke_operator_key(connection, key_id)
    if as_json:
        write_json(asdict(summary))
        return
    write_line(f"Operator key {summary.id} ({summary.name}) is revoked.")


def _show(summary: "OperatorKeySummary", key: str, as_json: bool) -> None:
    if as_json:
        write_json({"key": key} | asdict(summary))
        return
    write_line(f"id      {summary.id}\nkey     {key}")
    remark(SHOWN_ONCE)
