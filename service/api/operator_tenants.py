"""Tenants, their quotas and their usage for the platform operator, who cannot read the data of tenants."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Response
from pydantic import BaseModel, ConfigDict, Field

from service.access.limits import LARGEST_COUNT, LARGEST_RATE
from service.access.quotas import Quotas, Usage, quotas_of_new_tenants
from service.access.tenants import (
    TenantSummary,
    change_quotas,
    create_tenant,
    delete_tenant,
    list_tenants,
    make_first_key,
    read_tenant,
    read_usage_of,
)
from service.api.shapes import WHOLE, Cursor, Limit, List, RequestModel, TenantNaming, page_of
from service.database.pagination import Cursor as Cursors
from service.errors import Conflict
from service.http.openapi import leads_to, problems
from service.http.routes import operator_router
from service.http.sessions import OperatorTransaction
from service.http.state import CurrentServerState

router = operator_router("/v1/operator/tenants", "tenants")

TenantName = Annotated[str, Path(description="The tenant's name.", examples=["acme"])]
Rate = Annotated[int, Field(ge=1, le=LARGEST_RATE), WHOLE] | None
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT), WHOLE] | None
_QUOTAS: dict[str, Any] = {
    "requests_per_minute": 6000,
    "inferences_per_minute": 600,
    "maximum_galleries": 10,
    "maximum_faces_per_gallery": 100000,
    "maximum_stored_bytes": None,
}
_EXAMPLE: dict[str, Any] = {"name": "acme", "quotas": _QUOTAS, "created_at": "2026-01-31T08:30:00Z"}


class QuotasChange(RequestModel):
    """Quotas to change. Null removes a limit; omitted quotas keep their value, or for a new tenant the settings'."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inferences_per_minute": 600}]})

    requests_per_minute: Rate = Field(default=None, description="Requests without an image.")
    inferences_per_minute: Rate = Field(default=None, description="Images.")
    maximum_galleries: Count = None
    maximum_faces_per_gallery: Count = Field(default=None, description="Also limits the people of a gallery.")
    maximum_stored_bytes: Count = Field(
        default=None, description="References, names, metadata and imports that are not finished."
    )

    def applied_to(self, quotas: Quotas) -> Quotas:
        """Apply the change to the present quotas."""
        return replace(quotas, **self.model_dump(include=self.model_fields_set))


class QuotasShape(BaseModel):
    """Quotas of a tenant; null means no limit."""

    model_config = ConfigDict(json_schema_extra={"examples": [_QUOTAS]}, from_attributes=True)

    requests_per_minute: int | None
    inferences_per_minute: int | None
    maximum_galleries: int | None
    maximum_faces_per_gallery: int | None
    maximum_stored_bytes: int | None


class NewTenant(RequestModel):
    """A new tenant."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "acme"}]})

    name: TenantNaming
    quotas: QuotasChange = Field(default_factory=QuotasChange)


class TenantShape(BaseModel):
    """A tenant."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]}, from_attributes=True)

    name: str
    quotas: QuotasShape
    created_at: datetime

    @classmethod
    def of(cls, tenant: TenantSummary) -> "TenantShape":
        """Convert a tenant to a response."""
        return cls.model_validate(tenant)


class MadeTenant(TenantShape):
    """A new tenant. Only this response contains its first key."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE | {"key": "fik_1a2b3c_4d5e…"}]})

    key: str


class UsageShape(BaseModel):
    """What a tenant stores, in the units of its quotas."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"galleries": 1, "people": 2, "faces": 7, "stored_bytes": 22848, "quotas": _QUOTAS},
            ]
        },
        from_attributes=True,
    )

    galleries: int
    people: int
    faces: int
    stored_bytes: int
    quotas: QuotasShape

    @classmethod
    def of(cls, usage: Usage, quotas: Quotas) -> "UsageShape":
        """Convert usage and quotas to a response."""
        return cls(**vars(usage), quotas=QuotasShape.model_validate(quotas))


@router.post(
    "",
    status_code=201,
    responses=problems(Conflict)
    | leads_to(
        *("operator_tenants_show", "operator_tenants_usage", "operator_tenants_change", "operator_tenants_erase"),
        tenant="response.body#/name",
    ),
)
async def create(new: NewTenant, connection: OperatorTransaction, state: CurrentServerState) -> MadeTenant:
    """Create a tenant and its first key, which has all scopes of a tenant."""
    quotas = new.quotas.applied_to(quotas_of_new_tenants(state.settings))
    tenant_id = await create_tenant(connection, new.name, quotas)
    key = await make_first_key(connection, tenant_id)
    made = await read_tenant(connection, new.name)
    return MadeTenant(**TenantShape.of(made).model_dump(), key=key)


@router.get("")
async def list_all(connection: OperatorTransaction, limit: Limit = 100, cursor: Cursor = None) -> List[TenantShape]:
    """List the tenants in no particular order."""
    cursors = Cursors("tenants", bits=31)
    tenants = await list_tenants(connection, limit=limit + 1, after=cursors.after(cursor))
    return page_of(cursors.page(tenants, [tenant.tenant_id for tenant in tenants], limit), TenantShape.of)


@router.get("/{tenant}")
async def show(tenant: TenantName, connection: OperatorTransaction) -> TenantShape:
    """Return one tenant."""
    return TenantShape.of(await read_tenant(connection, tenant))


@router.get("/{tenant}/usage")
async def usage(tenant: TenantName, connection: OperatorTransaction) -> UsageShape:
    """Return how much a tenant stores, in numbers only."""
    summary = await read_tenant(connection, tenant)
    return UsageShape.of(await read_usage_of(connection, summary.tenant_id), summary.quotas)


@router.patch("/{tenant}")
async def change(tenant: TenantName, quotas: QuotasChange, connection: OperatorTransaction) -> TenantShape:
    """Change the quotas of a tenant. They apply from its next request on."""
    before = await read_tenant(connection, tenant)
    return TenantShape.of(await change_quotas(connection, tenant, quotas.applied_to(before.quotas)))


@router.delete("/{tenant}", status_code=204)
async def erase(tenant: TenantName, connection: OperatorTransaction) -> Response:
    """Erase a tenant with its galleries, people, faces, jobs and keys."""
    await delete_tenant(connection, tenant)
    return Response(status_code=204)
