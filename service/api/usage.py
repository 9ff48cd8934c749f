"""What the tenant uses, and what it may."""

from service.access.tenants import own_quotas
from service.access.usage import read_usage
from service.api.operator_tenants import UsageShape
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession

router = keyed_router("/v1/usage", "usage")


@router.get("")
@needs("read")
async def show(session: RequestSession) -> UsageShape:
    """How much the tenant keeps, beside its quotas."""
    return UsageShape.of(await read_usage(session), await own_quotas(session))
