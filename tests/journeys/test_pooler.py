"""Two server processes behind one PgBouncer in transaction mode: people are enrolled, recognized and erased."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.database.addresses import conninfo
from service.database.connection import Database
from tests.support.folders import OpenFolder
from tests.support.pooler import StartPooler
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

GALLERY = {"name": "staff", "embedding_space": "external:pooled:3"}
ROUNDS = 6
CLIENTS = 8


@pytest.fixture
def servers(database: Database, start_pooler: StartPooler) -> Iterator[list[ServerProcess]]:
    """Two running servers, whose connections share two connections of the PostgreSQL server."""
    pooler = start_pooler(database.logins.service, 2)
    with ExitStack() as stack:
        started = []
        for _ in range(2):
            folder = stack.enter_context(OpenFolder())
            server = ServerProcess(Path(folder))
            server.environment["DATABASE_URL"] = conninfo(database.logins.administrator)
            server.environment["DATABASE_SERVICE_URL"] = conninfo(pooler)
            stack.callback(server.close)
            started.append(server.start())
        yield started


def live(client: httpx.Client, number: int) -> None:
    """Enroll, recognize, find, list and erase a person of that number, again and again."""
    for turn in range(ROUNDS):
        embedding = [float(number + 1), float(turn + 1), 0.5]
        made = client.post("/v1/galleries/staff/people", json={"name": f"person {number} {turn}"})
        assert made.status_code == 201, made.text
        person = f"/v1/galleries/staff/people/{made.json()['id']}"
        stored = client.post(f"{person}/faces", json={"embedding": embedding})
        assert stored.status_code == 201, stored.text
        found = client.post("/v1/galleries/staff/recognize", json={"embedding": embedding})
        assert found.status_code == 200, found.text
        assert f"person {number} {turn}" in found.text
        assert client.get(person).json()["name"] == f"person {number} {turn}"
        assert client.get("/v1/galleries/staff/people", params={"limit": 5}).status_code == 200
        assert client.get("/v1/galleries/staff/export").status_code in {200, 429}
        assert client.delete(person).status_code == 204
        assert client.get(person).status_code == 404


def test_people_are_enrolled_recognized_and_erased_through_two_servers(servers: list[ServerProcess]) -> None:
    key = servers[0].new_probe_key("pooled")
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client(key)) for server in servers for _ in range(CLIENTS // 2)]
        assert clients[0].post("/v1/galleries", json=GALLERY).status_code == 201
        with ThreadPoolExecutor(CLIENTS) as threads:
            for done in [threads.submit(live, client, number) for number, client in enumerate(clients)]:
                done.result()
        counts = clients[0].get("/v1/galleries/staff").json()
        assert (counts["people"], counts["faces"]) == (0, 0)
        assert clients[1].get("/readyz").status_code == 200


def test_a_job_runs_without_notices_of_the_server(servers: list[ServerProcess]) -> None:
    key = servers[0].new_key("pooled-jobs")
    with servers[1].client(key) as client:
        client.post("/v1/galleries", json=GALLERY)
        started = client.post("/v1/galleries/staff/import", content=b'[["Ada","0.1,0.2,0.3"],["Eve","1,0,0"]]')
        path = f"/v1/jobs/{started.json()['job']}"
        wait_until(lambda: client.get(path).json()["status"] not in {"queued", "running"})
        assert client.get(path).json()["result"]["faces"] == 2
        assert client.get("/v1/galleries/staff/export").content.count(b"\n") == 2
