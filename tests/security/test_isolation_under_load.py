"""Fifty tenants, five connections, a thousand interleaved requests with aborts: no answer contains a foreign row."""

import asyncio
import random
import uuid
from dataclasses import dataclass, field

import httpx

from tests.security.conftest import RunningServer
from tests.support.tenants import embedding_of

TENANTS = 50
REQUESTS = 1_000
AT_ONCE = 40
GALLERY = {"name": "staff", "embedding_space": "external:load:512"}


@dataclass
class Tally:
    """The outcomes of the requests."""

    answered: int = 0
    aborted: int = 0
    foreign: int = 0
    statuses: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Tenant:
    """A tenant whose rows all contain its mark."""

    mark: str
    client: httpx.AsyncClient

    async def prepare(self, probe: list[float]) -> None:
        """Make a gallery, people and references. All tenants have the same embedding, so each would find the others."""
        await self.client.post("/v1/galleries", json=GALLERY)
        for number in range(2):
            person = {"name": f"{self.mark} {number}", "metadata": {"mark": self.mark}}
            made = await self.client.post("/v1/galleries/staff/people", json=person)
            reference = {"embedding": probe, "source": self.mark}
            path = f"/v1/galleries/staff/people/{made.json()['id']}/faces"
            assert (await self.client.post(path, json=reference)).status_code == 201

    async def ask(self, chance: random.Random, probe: list[float]) -> httpx.Response:
        """Send one of several kinds of request."""
        kind = chance.randrange(5)
        if kind == 0:
            return await self.client.post("/v1/galleries/staff/recognize", json={"embedding": probe})
        if kind == 1:
            return await self.client.get("/v1/galleries/staff/export", params={"format": "ndjson"})
        if kind == 2:
            named = {"name": f"{self.mark} {uuid.uuid4().hex}"}
            return await self.client.post("/v1/galleries/staff/people", json=named)
        return await self.client.get("/v1/galleries/staff/people" if kind == 3 else "/v1/usage")


async def test_a_thousand_interleaved_requests_see_no_foreign_row(running: RunningServer) -> None:
    probe = [float(number) for number in embedding_of("probe")]
    tenants = [await new_tenant(running, f"mark{number:02}x") for number in range(TENANTS)]
    await asyncio.gather(*[tenant.prepare(probe) for tenant in tenants])
    chance = random.Random(20260131)  # noqa: S311 - the same order every time
    tally, gate = Tally(), asyncio.Semaphore(AT_ONCE)

    async def request(tenant: Tenant) -> None:
        async with gate:
            patience = chance.uniform(0.001, 0.08) if chance.random() < 0.25 else 60.0
            try:
                async with asyncio.timeout(patience):
                    answer = await tenant.ask(chance, probe)
            except TimeoutError:
                tally.aborted += 1
                return
        tally.answered += 1
        tally.statuses.add(answer.status_code)
        marks = {other.mark for other in tenants if other.mark in answer.text}
        tally.foreign += len(marks - {tenant.mark})

    await asyncio.gather(*[request(chance.choice(tenants)) for _ in range(REQUESTS)])
    for tenant in tenants:
        await tenant.client.aclose()
    print(tally)
    assert tally.answered + tally.aborted == REQUESTS
    assert tally.aborted > 50
    assert tally.statuses <= {200, 201}
    assert tally.foreign == 0


async def new_tenant(running: RunningServer, mark: str) -> Tenant:
    key = await asyncio.to_thread(running.new_tenant, f"{mark}-{uuid.uuid4().hex[:8]}")
    client = httpx.AsyncClient(base_url=running.process.url, headers={"X-API-Key": key}, timeout=60)
    return Tenant(mark, client)
