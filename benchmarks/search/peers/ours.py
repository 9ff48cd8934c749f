"""This service: over SQL (its search module, one transaction a search) and over HTTP (an embedding as the probe)."""

import asyncio
import http.client
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from benchmarks.search.crowds import Matrix
from benchmarks.search.peers.contract import CANDIDATES, Answer, Peer
from benchmarks.search.server import memory_of, open_migrated
from benchmarks.search.workload import Workload
from service.access.tenants import create_tenant
from service.database.addresses import conninfo
from service.database.connection import Database, open_pool
from service.database.session import tenant_session
from service.embedding import external_space
from service.gallery.bulk_writing import ReferenceRow, add_references, finish_load
from service.gallery.faces import NewFace, add_faces
from service.gallery.galleries import Gallery, create_gallery, find_gallery
from service.gallery.people import create_person
from service.gallery.search.search import search

GALLERY = "crowd"
TENANT = "benchmark"
BATCH = 2000
TABLES = ("face", "face_detail", "person", "person_template", "gallery_size")


class OverSql(Peer):
    """`gallery.search` in a transaction of its own: begin, set the tenant, search, commit."""

    note = "search module, transaction and tenant included"

    def build(self, workload: Workload, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._database = open_migrated(folder)
        self._empty = memory_of(folder)
        self._loop.run_until_complete(self._load(workload))
        self._faces = workload.crowd.size
        self._enter()

    async def _load(self, workload: Workload) -> None:
        self._tenant = await make_tenant(self._database)
        space = external_space(f"external:benchmark:{workload.dimension}")
        assert space is not None
        async with tenant_session(self._database.engine, self._tenant) as session:
            gallery = await create_gallery(session, GALLERY, space)
            for start in range(0, workload.crowd.size, BATCH):
                rows = slice(start, start + BATCH)
                people, embeddings = workload.crowd.people[rows], workload.crowd.embeddings[rows]
                await add_references(
                    session,
                    gallery,
                    [ReferenceRow(str(person), None, row) for person, row in zip(people, embeddings, strict=True)],
                )
            await session.commit()
        await finish_load(self._database.engine)

    def _enter(self) -> None:
        self._session = tenant_session(self._database.engine, self._tenant)
        self._gallery = self._loop.run_until_complete(_find(self._session))

    def search(self, probe: Matrix) -> tuple[int, float]:
        return self._loop.run_until_complete(search_once(self._session, self._gallery, probe))

    def ask(self, probes: Matrix) -> list[Answer]:
        """Search from a program that lives in an event loop, like the server."""

        async def one_after_the_other() -> list[Answer]:
            answers = []
            for probe in probes:
                began = time.perf_counter()
                person, similarity = await search_once(self._session, self._gallery, probe)
                answers.append(Answer(person, similarity, time.perf_counter() - began))
            return answers

        return self._loop.run_until_complete(one_after_the_other())

    def insert(self, embedding: Matrix, person: int) -> None:
        async def enroll() -> None:
            async with tenant_session(self._database.engine, self._tenant) as session:
                made = await create_person(session, self._gallery, str(person))
                await add_faces(session, self._gallery, made, [NewFace(embedding)])
                await session.commit()

        self._loop.run_until_complete(enroll())

    def reopen(self) -> None:
        self._leave()
        self._database = open_migrated(self._folder)
        self._enter()

    def _leave(self) -> None:
        self._loop.run_until_complete(self._session.close())
        self._loop.run_until_complete(self._database.close())

    def close(self) -> None:
        self._leave()
        self._loop.close()

    def bytes_on_disk(self) -> dict[str, int]:
        return bytes_of_tables(self._database)

    def bytes_in_memory(self) -> int:
        return memory_of(self._folder) - self._empty

    def rate(self, probes: Matrix, clients: int, seconds: float) -> float:
        """Run the sessions of one program that lives in an event loop, like the server's sessions."""
        return self._loop.run_until_complete(self._rate(probes, clients, seconds))

    async def _rate(self, probes: Matrix, clients: int, seconds: float) -> float:
        engine = open_pool(self._database.logins.service, clients)

        async def ask_on(number: int, end: float) -> int:
            count = 0
            async with tenant_session(engine, self._tenant) as session:
                while time.perf_counter() < end:
                    await search_once(session, self._gallery, probes[(number + count * clients) % len(probes)])
                    count += 1
            return count

        for warmth in (0.2, seconds):
            end = time.perf_counter() + warmth
            counts = await asyncio.gather(*(ask_on(number, end) for number in range(clients)))
        await engine.dispose()
        return sum(counts) / seconds

    def rate_of_programs(self, probes: Matrix, programs: int, seconds: float) -> float | None:
        arguments = (str(self._folder), self._tenant, probes)
        return rate_of_processes(_sql_client, arguments, programs, seconds)


async def search_once(session: AsyncSession, gallery: Gallery, probe: Matrix) -> tuple[int, float]:
    """Search once in a transaction of its own. Returns the best person's number and similarity."""
    (candidates,) = await search(session, gallery, [probe], CANDIDATES)
    await session.commit()
    return int(candidates[0].name), candidates[0].similarity


def bytes_of_tables(database: Database) -> dict[str, int]:
    """Return the bytes of tables and indexes by name; `originals`, the exact embeddings, is read by no search."""
    with psycopg.connect(conninfo(database.logins.administrator)) as connection:
        found: dict[str, int] = {}
        for name in TABLES:
            query = "SELECT pg_table_size(%(t)s::regclass), pg_indexes_size(%(t)s::regclass)"
            row = connection.execute(query, {"t": name}).fetchone()
            assert row is not None
            found[name], found[f"{name} indexes"] = row
        toast = "SELECT pg_total_relation_size(reltoastrelid) FROM pg_class WHERE relname = 'face_detail'"
        row = connection.execute(toast).fetchone()
        assert row is not None
    found["face_detail"] -= row[0]
    searched = sum(found.values())
    return found | {"without originals": searched, "originals": row[0], "total": searched + row[0]}


def rate_of_processes(client: Callable[..., int], arguments: tuple[Any, ...], clients: int, seconds: float) -> float:
    """Return searches a second of clients in separate processes that begin together."""
    context = multiprocessing.get_context("spawn")
    turns = [Turn(number, clients, seconds) for number in range(clients)]
    with context.Pool(clients, initializer=_share, initargs=(context.Barrier(clients),)) as pool:
        jobs = [pool.apply_async(client, (turn, *arguments)) for turn in turns]
        counts = [job.get(timeout=seconds + 300) for job in jobs]
    return sum(counts) / seconds


@dataclass(frozen=True)
class Turn:
    """The number of this client, the number of all clients, and the duration of the measurement once all are ready."""

    number: int
    clients: int
    seconds: float

    def start(self) -> float:
        """Wait for the other clients. Returns the time at which to stop."""
        assert _barrier is not None
        _barrier.wait()
        return time.perf_counter() + self.seconds

    def place(self, count: int) -> int:
        """Return the index of this client's probe after `count` searches."""
        return self.number + count * self.clients


_barrier: Barrier | None = None


def _share(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - how a pool's processes are given what cannot be sent to them
    _barrier = barrier


def _sql_client(turn: Turn, folder: str, tenant: int, probes: Matrix) -> int:
    loop = asyncio.new_event_loop()
    database = open_migrated(Path(folder))
    session = tenant_session(database.engine, tenant)
    gallery = loop.run_until_complete(_find(session))

    async def ask_on() -> int:
        for place in range(10):
            await search_once(session, gallery, probes[place])
        end, count = turn.start(), 0
        while time.perf_counter() < end:
            await search_once(session, gallery, probes[turn.place(count) % len(probes)])
            count += 1
        return count

    count = loop.run_until_complete(ask_on())
    loop.run_until_complete(session.close())
    loop.run_until_complete(database.close())
    return count


async def _find(session: AsyncSession) -> Gallery:
    gallery = await find_gallery(session, GALLERY)
    await session.commit()
    return gallery


async def make_tenant(database: Database) -> int:
    engine = create_async_engine(database.logins.administrator)
    async with engine.begin() as connection:
        tenant = await create_tenant(connection, TENANT)
    await engine.dispose()
    return tenant


class OverHttp(OverSql):
    """`POST /v1/galleries/crowd/recognize` with an embedding over a persistent connection to a separate process."""

    note = "POST /v1/galleries/../recognize with an embedding"
    processes = 1

    def build(self, workload: Workload, folder: Path) -> None:
        super().build(workload, folder)
        self._key = self._loop.run_until_complete(_make_key(self._database, self._tenant))
        self._start()

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = int(free.getsockname()[1])
        settings = {"ENCODER": "fake", "LOGGER_LEVEL": "WARNING", "SERVER_WORKERS": str(self.processes)}
        environment = os.environ | settings | {"DATA_DIR": str(self._folder)}
        program = [sys.executable, "-c", "from service.cli import main; main()", "serve", "--port", str(self._port)]
        self._server = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL)
        self._connection = _connected(self._port)

    def ask(self, probes: Matrix) -> list[Answer]:
        return Peer.ask(self, probes)

    def search(self, probe: Matrix) -> tuple[int, float]:
        return _ask(self._connection, self._key, _body(probe))

    def reopen(self) -> None:
        self._stop()
        super().reopen()
        self._start()

    def _stop(self) -> None:
        self._connection.close()
        self._server.terminate()
        self._server.wait(60)

    def close(self) -> None:
        self._stop()
        super().close()

    def rate(self, probes: Matrix, clients: int, seconds: float) -> float:
        return rate_of_processes(_http_client, (self._port, self._key, probes), clients, seconds)

    def rate_of_programs(self, probes: Matrix, programs: int, seconds: float) -> float | None:  # noqa: ARG002
        return None  # Clients over HTTP are separate programs in any case.


class OverHttpOfTwo(OverHttp):
    """The same with two server processes, for a server that mostly searches (SERVER_WORKERS=2)."""

    note = "the same, SERVER_WORKERS=2"
    processes = 2


async def _make_key(database: Database, tenant: int) -> str:
    from service.access.keys import create_key

    async with tenant_session(database.engine, tenant) as session:
        _, key = await create_key(session, "benchmark", ["recognize", "probe"])
        await session.commit()
    return key


def _body(probe: Matrix) -> bytes:
    return json.dumps({"embedding": [round(float(number), 7) for number in probe]}).encode()


def _connected(port: int) -> http.client.HTTPConnection:
    end = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().read() and time.monotonic() < end:
                return connection
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _ask(connection: http.client.HTTPConnection, key: str, body: bytes) -> tuple[int, float]:
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    connection.request("POST", f"/v1/galleries/{GALLERY}/recognize", body, headers)
    answer = json.loads(connection.getresponse().read())
    best = answer["faces"][0]["candidates"][0]
    return int(best["person"]["name"]), float(best["similarity"])


def _http_client(turn: Turn, port: int, key: str, probes: Matrix) -> int:
    bodies = [_body(probe) for probe in probes]
    connection = _connected(port)

    for body in bodies[:10]:
        _ask(connection, key, body)
    end, count = turn.start(), 0
    while time.perf_counter() < end:
        _ask(connection, key, bodies[turn.place(count) % len(bodies)])
        count += 1
    return count
