"""`face-identity tenants`: the operator's work on tenants."""

from typing import Annotated

import typer

from service.access.operator import operator_transaction
from service.access.quotas import quotas_of_new_tenants
from service.access.tenant_keys import create_key
from service.access.tenants import create_tenant, delete_tenant, find_tenant, list_tenants
from service.cli.confirm import Yes, confirm
from service.cli.output import Json, remark, write_json, write_line, write_table
from service.cli.workplace import Workplace, asynchronous, open_migrated, read_settings

application = typer.Typer(help="Create, list and erase tenants.")

Name = Annotated[str, typer.Argument(help="The tenant's name.")]


@application.command()
@asynchronous
async def create(name: Name, as_json: Json = False) -> None:
    """Create a tenant and its first API key, which is shown this once."""
    settings = read_settings()
    async with open_migrated(settings) as database:
        async with operator_transaction(database.engine) as connection:
            tenant_id = await create_tenant(connection, name, quotas_of_new_tenants(settings))
        async with Workplace(settings, database, tenant_id).session() as session:
            _, key = await create_key(session, "first key")
            await session.commit()
    if as_json:
        write_json({"tenant": name, "key": key})
        return
    write_line(f"tenant  {name}\nkey     {key}")
    remark("The key is shown this once; only its hash is stored. `face-identity keys create` makes another.")


@application.command("list")
@asynchronous
async def list_all(as_json: Json = False) -> None:
    """List the tenants."""
    async with open_migrated(read_settings()) as database, operator_transaction(database.engine) as connection:
        tenants = await list_tenants(connection)
    if as_json:
        write_json({"items": [{"name": tenant.name, "created_at": tenant.created_at} for tenant in tenants]})
        return
    write_table(["name", "created"], [(tenant.name, tenant.created_at) for tenant in tenants], "There is no tenant.")


@application.command()
@asynchronous
async def delete(name: Name, yes: Yes = False, as_json: Json = False) -> None:
    """Erase a tenant with its galleries, people, faces, jobs and keys."""
    async with open_migrated(read_settings()) as database:
        async with operator_transaction(database.engine) as connection:
            await find_tenant(connection, name)
        confirm(f"Erase tenant {name!r} and everything it has?", yes)
        async with operator_transaction(database.engine) as connection:
            await delete_tenant(connection, name)
    if as_json:
        write_json({"deleted": name})
        return
    write_line(f"Tenant {name!r} is erased.")
