"""`face-identity keys`: a tenant's API keys. A key is shown only once, when it is created."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from service.access.limits import LARGEST_RATE, LONGEST_GRACE
from service.access.names import DEFAULT_SCOPES, SCOPES
from service.cli.context import asynchronous, open_session
from service.cli.options import DEFAULT_TENANT, Cursor, Limit, TenantName, tell_next_page
from service.cli.output import Json, remark, write_json, write_line, write_table

if TYPE_CHECKING:
    from service.access.keys import KeySummary

application = typer.Typer(help="Create, list, rotate and revoke a tenant's API keys.")

Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help=f"What the key may do (repeatable; default: all but probe): {', '.join(SCOPES)}."),
]
Galleries = Annotated[
    list[str] | None, typer.Option("--gallery", help="A gallery that the key may use (repeatable; default: all).")
]
Days = Annotated[int | None, typer.Option("--days", min=1, max=36500, help="Days until expiry (default: never).")]

Hours = Annotated[
    float,
    typer.Option(
        "--grace-hours",
        min=0.0,
        max=LONGEST_GRACE.total_seconds() / 3600,
        help="Hours during which the old key still works.",
    ),
]
SHOWN_ONCE = "The key is shown only now; the service stores its hash."
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")]


@application.command()
@asynchronous
async def create(
    name: Annotated[str, typer.Argument(help="The purpose of the key.")] = "key",
    *,
    tenant: TenantName = DEFAULT_TENANT,
    scopes: Scopes = None,
    galleries: Galleries = None,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Accept galleries that do not exist yet.")] = False,
    days: Days = None,
    requests_per_minute: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST_RATE, help="Requests without an image (default: no own limit)."),
    ] = None,
    inferences_per_minute: Annotated[
        int | None, typer.Option(min=1, max=LARGEST_RATE, help="Images (default: no own limit).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create an API key and show it once.

    Refused if it names a gallery that does not exist, unless --missing-ok is given.
    """
    from service.access.keys import create_key
    from service.access.quotas import RateLimits
    from service.gallery.galleries import check_galleries_exist

    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    async with open_session(tenant) as session:
        if galleries and not missing_ok:
            await check_galleries_exist(session, galleries, "create it first, or give --missing-ok")
        rates = RateLimits(requests_per_minute, inferences_per_minute)
        summary, key = await create_key(session, name, scopes, galleries, expires_at, rates=rates)
        await session.commit()
    _show(tenant, summary, key, as_json)


@application.command("list")
@asynchronous
async def list_all(
    *, limit: Limit = 100, cursor: Cursor = None, tenant: TenantName = DEFAULT_TENANT, as_json: Json = False
) -> None:
    """List a tenant's keys, without their secrets."""
    from service.access.keys import list_keys

    async with open_session(tenant) as session:
        page = await list_keys(session, limit, cursor)
    if as_json:
        write_json({"items": [_fields(key) for key in page.items], "next_cursor": page.next_cursor})
        return
    headings = ["id", "name", "begins with", "scopes", "galleries", "expires", "revoked", "last used"]
    write_table(headings, [_row(key) for key in page.items], "There are no keys.")
    tell_next_page(page)


@application.command()
@asynchronous
async def rotate(
    key_id: KeyId, *, grace_hours: Hours = 24.0, tenant: TenantName = DEFAULT_TENANT, as_json: Json = False
) -> None:
    """Create the successor of a key; both work until the grace period of the old key ends."""
    from service.access.keys import rotate_key

    async with open_session(tenant) as session:
        summary, key = await rotate_key(session, key_id, timedelta(hours=grace_hours))
        await session.commit()
    _show(tenant, summary, key, as_json)


@application.command()
@asynchronous
async def revoke(
    key_id: KeyId,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Revoke a key; the next request with it is refused."""
    from service.access.keys import revoke_key

    async with open_session(tenant) as session:
        summary = await revoke_key(session, key_id)
        await session.commit()
    if as_json:
        write_json(_fields(summary))
        return
    write_line(f"Key {summary.id} ({summary.name}) is revoked.")


def _show(tenant: str, summary: "KeySummary", key: str, as_json: bool) -> None:
    if as_json:
        write_json({"tenant": tenant, "key": key} | _fields(summary))
        return
    write_line(f"tenant  {tenant}\nid      {summary.id}\nkey     {key}")
    remark(SHOWN_ONCE)


def _fields(key: "KeySummary") -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "scopes": key.scopes,
        "galleries": key.galleries,
        "requests_per_minute": key.requests_per_minute,
        "inferences_per_minute": key.inferences_per_minute,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "created_by": key.created_by,
    }


def _row(key: "KeySummary") -> list[object]:
    scopes = "all" if set(key.scopes) == set(SCOPES) else key.scopes
    scopes = "all but probe" if set(key.scopes) == set(DEFAULT_SCOPES) else scopes
    galleries = "all" if key.galleries is None else key.galleries
    return [key.id, key.name, key.hint, scopes, galleries, key.expires_at, key.revoked_at, key.last_used_at]
