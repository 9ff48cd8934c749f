"""Usage and quotas of the tenant."""

from service.access.quotas import read_usage
from service.access.tenants import own_quotas
from service.api.operator_tenants import UsageShape
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession

router = keyed_router("/v1/usage", "usage")


@router.get("")
@needs("read")
async def show(session: RequestSession) -> UsageShape:
    """Return how much the tenant stores, and its quotas."""
    return UsageShape.of(await read_usage(session), await own_quotas(session))
