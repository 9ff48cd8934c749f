"""Budgets of bytes: how much of request bodies one server process holds, in all and for each tenant.

A limit for each request is not enough: many requests that are sent slowly hold many times that limit. One tenant may
take half of a budget, so that it cannot stop the requests of the others.
"""

from service.errors import BodyBudgetFull, TenantBodyBudgetFull

NO_TENANT = 0
"""Stands for callers without a tenant: the operator."""
RETRY_AFTER_SECONDS = 2


class ByteBudget:
    """Counts the bytes that requests hold. `medium` names in errors where they are held: memory or disk."""

    def __init__(self, total_bytes: int, medium: str) -> None:
        self.share_bytes = max(1, total_bytes // 2)
        """Most bytes that the requests of one tenant hold."""
        self._total_bytes = total_bytes
        self._medium = medium
        self._held = 0
        self._of_tenant: dict[int, int] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes that all requests hold now."""
        return self._held

    def take(self, tenant_id: int, size: int) -> None:
        """Count `size` bytes more. Raises TenantBodyBudgetFull or BodyBudgetFull, and then counts nothing."""
        of_tenant = self._of_tenant.get(tenant_id, 0) + size
        if of_tenant > self.share_bytes:
            detail = f"the requests of this tenant hold {of_tenant - size} bytes of {self._medium} already"
            raise TenantBodyBudgetFull(detail, retry_after_seconds=RETRY_AFTER_SECONDS)
        if self._held + size > self._total_bytes:
            detail = f"requests hold {self._held} bytes of {self._medium} already"
            raise BodyBudgetFull(detail, retry_after_seconds=RETRY_AFTER_SECONDS)
        self._held += size
        self._of_tenant[tenant_id] = of_tenant

    def give_back(self, tenant_id: int, size: int) -> None:
        """Count `size` bytes less. A tenant without bytes is forgotten."""
        self._held -= size
        self._of_tenant[tenant_id] = self._of_tenant.get(tenant_id, 0) - size
        if self._of_tenant[tenant_id] <= 0:
            del self._of_tenant[tenant_id]


class Holding:
    """The bytes that one request holds in a budget until it ends."""

    def __init__(self, budget: ByteBudget, tenant_id: int) -> None:
        self._budget = budget
        self._tenant_id = tenant_id
        self._size = 0

    def add(self, size: int) -> None:
        """Hold `size` bytes more. Raises the errors of `ByteBudget.take`."""
        self._budget.take(self._tenant_id, size)
        self._size += size

    def release(self) -> None:
        """Give everything back. Does nothing the second time."""
        if self._size:
            self._budget.give_back(self._tenant_id, self._size)
            self._size = 0
