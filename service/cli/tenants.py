"""`face-identity tenants`: tenants and their quotas, managed by the operator."""

from dataclasses import asdict, replace
from typing import Annotated

import typer

from service.access.limits import LARGEST_COUNT, LARGEST_RATE
from service.cli.context import CommandContext, asynchronous, open_migrated, read_settings
from service.cli.keys import SHOWN_ONCE
from service.cli.options import Yes, confirm
from service.cli.output import Json, remark, write_json, write_line, write_table

application = typer.Typer(help="Create, list and erase tenants; set their quotas.")

Name = Annotated[str, typer.Argument(help="The tenant's name.")]
Rate = Annotated[int | None, typer.Option(min=0, max=LARGEST_RATE, help="Most per minute; 0 is no limit.")]
Count = Annotated[int | None, typer.Option(min=0, max=LARGEST_COUNT, help="Most stored; 0 is no limit.")]


@application.command()
@asynchronous
async def create(name: Name, as_json: Json = False) -> None:
    """Create a tenant and its first API key, and show the key once."""
    from service.access.keys import create_key
    from service.access.operator import operator_transaction
    from service.access.quotas import quotas_of_new_tenants
    from service.access.tenants import create_tenant

    settings = read_settings()
    async with open_migrated(settings) as database:
        async with operator_transaction(database.engine) as connection:
            tenant_id = await create_tenant(connection, name, quotas_of_new_tenants(settings))
        async with CommandContext(settings, database, tenant_id).session() as session:
            _, key = await create_key(session, "first key")
            await session.commit()
    if as_json:
        write_json({"tenant": name, "key": key})
        return
    write_line(f"tenant  {name}\nkey     {key}")
    remark(f"{SHOWN_ONCE} `face-identity keys create` creates another.")


@application.command("list")
@asynchronous
async def list_all(as_json: Json = False) -> None:
    """List the tenants."""
    from service.access.operator import operator_transaction
    from service.access.tenants import list_tenants

    async with open_migrated(read_settings()) as database, operator_transaction(database.engine) as connection:
        tenants = sorted(await list_tenants(connection), key=lambda tenant: tenant.name)
    if as_json:
        write_json({"items": [{"name": tenant.name, "created_at": tenant.created_at} for tenant in tenants]})
        return
    write_table(["name", "created"], [(tenant.name, tenant.created_at) for tenant in tenants], "There are no tenants.")


@application.command()
@asynchronous
async def usage(name: Name, as_json: Json = False) -> None:
    """Show what a tenant stores, and its quotas."""
    from service.access.operator import operator_transaction
    from service.access.quotas import read_usage
    from service.access.tenants import read_tenant
    from service.database.session import tenant_session

    async with open_migrated(read_settings()) as database:
        async with operator_transaction(database.engine) as connection:
            tenant = await read_tenant(connection, name)
        async with tenant_session(database.engine, tenant.tenant_id) as session:
            used = asdict(await read_usage(session))
    quotas = tenant.quotas.as_columns()
    if as_json:
        write_json(used | {"quotas": quotas})
        return
    rows = [(what.replace("_", " "), number) for what, number in used.items()]
    rows += [(what.replace("_", " "), "no limit" if most is None else most) for what, most in quotas.items()]
    write_table(["measure", "value"], rows, "")


@application.command()
@asynchronous
async def quotas(
    name: Name,
    *,
    requests_per_minute: Rate = None,
    inferences_per_minute: Rate = None,
    maximum_galleries: Count = None,
    maximum_faces_per_gallery: Count = None,
    maximum_stored_bytes: Count = None,
    as_json: Json = False,
) -> None:
    """Change a tenant's quotas; omitted quotas keep their value, 0 is no limit."""
    from service.access.operator import operator_transaction
    from service.access.tenants import change_quotas, read_tenant

    options = {
        "requests_per_minute": requests_per_minute,
        "inferences_per_minute": inferences_per_minute,
        "maximum_galleries": maximum_galleries,
        "maximum_faces_per_gallery": maximum_faces_per_gallery,
        "maximum_stored_bytes": maximum_stored_bytes,
    }
    changes = {quota: most or None for quota, most in options.items() if most is not None}
    async with open_migrated(read_settings()) as database, operator_transaction(database.engine) as connection:
        before = await read_tenant(connection, name)
        changed = await change_quotas(connection, name, replace(before.quotas, **changes))
    if as_json:
        write_json({"tenant": name, "quotas": changed.quotas.as_columns()})
        return
    columns = changed.quotas.as_columns().items()
    rows = [(quota.replace("_", " "), "no limit" if most is None else most) for quota, most in columns]
    write_table(["quota", "at most"], rows, "")


@application.command()
@asynchronous
async def delete(name: Name, yes: Yes = False, as_json: Json = False) -> None:
    """Erase a tenant with its galleries, people, faces, jobs and keys."""
    from service.access.operator import operator_transaction
    from service.access.tenants import delete_tenant, find_tenant

    async with open_migrated(read_settings()) as database:
        async with operator_transaction(database.engine) as connection:
            await find_tenant(connection, name)
        confirm(f"Erase tenant {name!r} with all its data?", yes)
        async with operator_transaction(database.engine) as connection:
            await delete_tenant(connection, name)
    if as_json:
        write_json({"deleted": name})
        return
    write_line(f"Tenant {name!r} is erased.")
