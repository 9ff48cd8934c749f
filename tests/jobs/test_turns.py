"""Turns of jobs: side by side, or alone, in the order of arrival."""

import asyncio

from service.jobs.turns import Turns


async def run(turns: Turns, name: str, log: list[str], end: asyncio.Event, *, alone: bool = False) -> None:
    async with turns.taken(alone=alone):
        log.append(f"{name} begins")
        await end.wait()
        log.append(f"{name} ends")


async def turns_of_the_loop() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_job_that_runs_alone_waits_for_the_running_ones_and_later_ones_wait_for_it() -> None:
    turns, log = Turns(), list[str]()
    ends = [asyncio.Event() for _ in range(4)]
    async with asyncio.TaskGroup() as group:
        for name, end in zip(("first", "second", "alone", "last"), ends, strict=True):
            group.create_task(run(turns, name, log, end, alone=name == "alone"))
            await turns_of_the_loop()
        assert log == ["first begins", "second begins"]
        for end in ends:
            end.set()
            await turns_of_the_loop()
    assert log[2:] == ["first ends", "second ends", "alone begins", "alone ends", "last begins", "last ends"]


async def test_a_cancelled_wait_for_being_alone_lets_the_others_go_on() -> None:
    turns, log = Turns(), list[str]()
    ends = [asyncio.Event() for _ in range(3)]
    first = asyncio.create_task(run(turns, "first", log, ends[0]))
    await turns_of_the_loop()
    alone = asyncio.create_task(run(turns, "alone", log, ends[1], alone=True))
    await turns_of_the_loop()
    last = asyncio.create_task(run(turns, "last", log, ends[2]))
    alone.cancel()
    await turns_of_the_loop()
    assert log == ["first begins", "last begins"]
    for end in ends:
        end.set()
    await asyncio.gather(first, last, alone, return_exceptions=True)
