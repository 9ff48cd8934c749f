"""Server and database are killed during enrollment: every acknowledged face is stored and found."""

import contextlib
import threading

import httpx

from service.encoder.fake_pictures import draw_people
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

KILLS = 2
PEOPLE_BEFORE_KILL = 3
"""Acknowledged people of each enroller before the kill, so that it hits the server at work."""
ENROLLERS = 3


class Enroller(threading.Thread):
    """Enrolls people until the server is gone, and remembers the acknowledged ones."""

    def __init__(self, server: ServerProcess, key: str, name: str) -> None:
        super().__init__()
        self._client = server.client(key)
        self._name = name
        self.acknowledged: dict[str, str] = {}

    def run(self) -> None:
        """Enroll until a request is not answered."""
        with self._client, contextlib.suppress(httpx.TransportError):
            while True:
                self._enroll(f"{self._name} {len(self.acknowledged)}")

    def is_ready_for_the_kill(self) -> bool:
        """Whether enough people are acknowledged, or the thread has ended because of an error."""
        return not self.is_alive() or len(self.acknowledged) >= PEOPLE_BEFORE_KILL

    def _enroll(self, name: str) -> None:
        made = self._client.post("/v1/galleries/staff/people", json={"name": name})
        assert made.status_code == 201, made.text
        person = made.json()["id"]
        image = {"image": ("image.jpg", draw_people([name]))}
        enrolled = self._client.post(f"/v1/galleries/staff/people/{person}/faces", files=image)
        if enrolled.status_code >= 500:  # the database died a moment before the server
            return
        assert enrolled.status_code == 201, enrolled.text
        self.acknowledged[name] = person


def test_every_acknowledged_face_survives_killing_server_and_database(server: ServerProcess) -> None:
    key = server.new_key()
    server.start()
    with server.client(key) as client:
        assert client.post("/v1/galleries", json={"name": "staff"}).status_code == 201
    acknowledged: dict[str, str] = {}
    for kill in range(KILLS):
        enrollers = [Enroller(server, key, f"life {kill} enroller {number}") for number in range(ENROLLERS)]
        for enroller in enrollers:
            enroller.start()
        for enroller in enrollers:
            wait_until(enroller.is_ready_for_the_kill)
        assert all(enroller.is_alive() for enroller in enrollers)
        server.kill(database=True)
        for enroller in enrollers:
            enroller.join()
            assert enroller.acknowledged
            acknowledged |= enroller.acknowledged
        server.start()
    with server.client(key) as client:
        check_that_all_are_found(client, acknowledged)
        check_that_nothing_is_half_written(client)


def check_that_all_are_found(client: httpx.Client, acknowledged: dict[str, str]) -> None:
    """Recognize each person in another image of the same person."""
    missing = []
    for name, person in acknowledged.items():
        image = {"image": ("probe.jpg", draw_people([name], variation=1))}
        (face,) = client.post("/v1/galleries/staff/recognize", files=image).json()["faces"]
        if face["match"] is None or face["match"]["person"]["id"] != person:
            missing.append(name)
    assert missing == []


def check_that_nothing_is_half_written(client: httpx.Client) -> None:
    """The counts of the gallery agree with its lists and with its export."""
    counts = client.get("/v1/galleries/staff").json()
    people = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "100"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/galleries/staff/people", params=query).json()
        people += page["items"]
        cursor = page["next_cursor"]
    assert counts["people"] == len(people)
    assert counts["faces"] == sum(person["faces"] for person in people)
    assert client.get("/v1/galleries/staff/export", params={"format": "ndjson"}).text.count("\n") == counts["faces"]
