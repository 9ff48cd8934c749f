"""An honest tenant recognizes while another tenant, or nobody, attacks: every answer comes, and in its turn.

`make siege` measures the same attacks in seconds; here only turns are counted, so that a busy machine changes nothing.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from service.encoder.fake_pictures import draw_people
from tests.security.conftest import RunningServer
from tests.support.attacks import (
    ATTACKS,
    CLIENTS,
    DIMENSION,
    GALLERY,
    MEBIBYTE,
    NUMBERS,
    Attacker,
    Tally,
    prepare,
    rows,
)
from tests.support.waiting import GUARD_SECONDS, until

ROUNDS = 4
LEAST_BEGUN = 8
"""Requests of the attacker that wait before the honest tenant asks."""
MOST_TURNS = CLIENTS // 2
"""Requests of the attacker that may be done while one honest request waits: those in progress, and one in its turn.
In a queue without turns each of the attacker's clients would go first."""
CHEAP = {"operators"}
"""Attacks of requests that wait for nothing: many are done while one honest request is, and none of them delays it."""
BUDGET_BYTES = 1024 * MEBIBYTE


@pytest.fixture(scope="module")
async def attacker(running: RunningServer) -> Attacker:
    """The attacker's tenant, with a gallery to search and export."""
    key = await asyncio.to_thread(running.new_probe_key, f"attacker-{uuid.uuid4().hex[:8]}")
    made = Attacker(running.process.url, key, running.operator_key)
    await prepare(made)
    return made


@pytest.fixture(scope="module")
async def honest(running: RunningServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the honest tenant, with a person to recognize by image and one by embedding."""
    key = await asyncio.to_thread(running.new_probe_key, f"honest-{uuid.uuid4().hex[:8]}")
    async with httpx.AsyncClient(
        base_url=running.process.url, headers={"X-API-Key": key}, timeout=GUARD_SECONDS
    ) as client:
        await client.post("/v1/galleries", json={"name": GALLERY})
        await client.post("/v1/galleries", json={"name": NUMBERS, "embedding_space": f"external:honest:{DIMENSION}"})
        await client.post(f"/v1/galleries/{GALLERY}/faces?person=Ada", files={"image": ("a.jpg", draw_people(["Ada"]))})
        embedding = msgspec.json.decode(rows(1))["embedding"]
        await client.post(f"/v1/galleries/{NUMBERS}/faces/embedding?person=Ada", json={"embedding": embedding})
        yield client


async def recognized(client: httpx.AsyncClient) -> list[str]:
    """Recognize Ada by an image and by an embedding. Returns the names of both answers, or the problems."""
    image = await client.post(
        f"/v1/galleries/{GALLERY}/recognize", files={"image": ("a.jpg", draw_people(["Ada"], variation=1))}
    )
    embedding = msgspec.json.decode(rows(1))["embedding"]
    probe = await client.post(f"/v1/galleries/{NUMBERS}/recognize", json={"embedding": embedding})
    return [_name_of(answer) for answer in (image, probe)]


async def _has_begun(attack: "asyncio.Future[None]", tally: Tally, before: int) -> bool:
    assert not attack.done(), attack.exception()
    return tally.begun - before >= LEAST_BEGUN


def _name_of(answer: httpx.Response) -> str:
    if answer.status_code != 200:
        return answer.text
    return str(answer.json()["faces"][0]["match"]["person"]["name"])


@pytest.mark.parametrize("name", ATTACKS, ids=lambda name: name.replace(" ", "-"))
async def test_an_honest_tenant_is_answered_in_its_turn(
    name: str, running: RunningServer, attacker: Attacker, honest: httpx.AsyncClient
) -> None:
    running.forget_peak()
    tally = attacker.tally
    before = tally.begun
    attack = asyncio.ensure_future(ATTACKS[name](attacker))
    try:
        await until(lambda: _has_begun(attack, tally, before))
        turns = []
        for _ in range(ROUNDS):
            served = tally.served
            assert await recognized(honest) == ["Ada", "Ada"]
            turns.append(tally.served - served)
    finally:
        attack.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await attack
    print(f"{name}: {turns} turns of the attacker, {running.peak_bytes() / MEBIBYTE:.0f} MiB")
    assert name in CHEAP or max(turns) <= MOST_TURNS
    assert running.peak_bytes() < BUDGET_BYTES
