"""Fifty tenants, five connections, a thousand interleaved requests with aborts: no answer contains a foreign row."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from tests.security.conftest import RunningServer
from tests.support.tenants import embedding_of

TENANTS = 50
REQUESTS = 1_000
AT_ONCE = 40
STEPS = ["send_request_headers.complete", "send_request_body.complete", "receive_response_headers.complete"]
"""Steps at which a client leaves: before its body, before the answer, and during the answer."""
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
        made = await self.client.post("/v1/galleries", json=GALLERY)
        assert made.status_code == 201, made.text
        for number in range(2):
            person = {"name": f"{self.mark} {number}", "metadata": {"mark": self.mark}}
            made = await self.client.post("/v1/galleries/staff/people", json=person)
            assert made.status_code == 201, made.text
            reference = {"embedding": probe, "source": self.mark}
            path = f"/v1/galleries/staff/people/{made.json()['id']}/faces"
            assert (await self.client.post(path, json=reference)).status_code == 201

    async def ask(self, kind: int, probe: list[float], leaving_at: str | None) -> httpx.Response:
        """Send one of five kinds of request. Raises Left if the client leaves at a step of the request."""
        extensions = {} if leaving_at is None else {"trace": leave_at(leaving_at)}
        if kind == 0:
            path = "/v1/galleries/staff/recognize"
            return await self.client.post(path, json={"embedding": probe}, extensions=extensions)
        if kind == 1:
            path = "/v1/galleries/staff/export"
            return await self.client.get(path, params={"format": "ndjson"}, extensions=extensions)
        if kind == 2:
            named = {"name": f"{self.mark} {uuid.uuid4().hex}"}
            return await self.client.post("/v1/galleries/staff/people", json=named, extensions=extensions)
        path = "/v1/galleries/staff/people" if kind == 3 else "/v1/usage"
        return await self.client.get(path, extensions=extensions)


class Left(Exception):
    """The client has closed its connection during a request."""


def leave_at(step: str) -> Callable[[str, object], Awaitable[None]]:
    """A trace function of httpx that closes the connection at a step. The step comes with every request."""

    async def trace(event: str, _: object) -> None:
        if event == f"http11.{step}":
            raise Left

    return trace


async def test_a_thousand_interleaved_requests_see_no_foreign_row(running: RunningServer) -> None:
    probe = [float(number) for number in embedding_of("probe")]
    tenants = [await new_tenant(running, f"mark{number:02}x") for number in range(TENANTS)]
    await asyncio.gather(*[tenant.prepare(probe) for tenant in tenants])
    chance = random.Random(20260131)  # noqa: S311 - the same order every time
    tally, gate = Tally(), asyncio.Semaphore(AT_ONCE)

    async def request(tenant: Tenant, leaving_at: str | None) -> None:
        async with gate:
            try:
                answer = await tenant.ask(chance.randrange(5), probe, leaving_at)
            except Left:
                tally.aborted += 1
                return
        tally.answered += 1
        tally.statuses.add(answer.status_code)
        marks = {other.mark for other in tenants if other.mark in answer.text}
        tally.foreign += len(marks - {tenant.mark})

    leaving = [STEPS[number % len(STEPS)] if number % 4 == 0 else None for number in range(REQUESTS)]
    await asyncio.gather(*[request(chance.choice(tenants), step) for step in leaving])
    for tenant in tenants:
        await tenant.client.aclose()
    print(tally)
    assert (tally.aborted, tally.answered) == (REQUESTS // 4, REQUESTS - REQUESTS // 4)
    assert tally.statuses <= {200, 201}
    assert tally.foreign == 0


async def new_tenant(running: RunningServer, mark: str) -> Tenant:
    key = await asyncio.to_thread(running.new_probe_key, f"{mark}-{uuid.uuid4().hex[:8]}")
    client = httpx.AsyncClient(base_url=running.process.url, headers={"X-API-Key": key}, timeout=300)
    return Tenant(mark, client)
