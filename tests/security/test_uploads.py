"""Malicious uploads: images that expand, bodies and heads without end, deeply nested JSON."""

import asyncio
import contextlib
import io
import socket
import time
import uuid
import zlib
from collections.abc import Iterator
from struct import pack

import httpx
import pytest

from service.http.state import STREAMS_OF_A_TENANT
from tests.security.conftest import WAIT_SECONDS, RunningServer

MEBIBYTE = 1024 * 1024
BOMBS = 20
SIDE = 14_000
"""Pixels: a flat 14,000 x 14,000 PNG took 814 MB of memory in another service."""


@pytest.fixture(scope="module")
def client(running: RunningServer) -> Iterator[httpx.Client]:
    """A client of a tenant with a gallery."""
    with running.client(f"uploads-{uuid.uuid4().hex[:8]}") as opened:
        opened.post("/v1/galleries", json={"name": "staff"})
        yield opened


def png_bomb(side: int = SIDE, claimed_side: int | None = None) -> bytes:
    """Return a PNG of one color, side x side, of a few hundred kilobytes, with the claimed size in its header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" * (side * 3 + 1)) for _ in range(side)) + packer.flush()
    head = pack(">IIBBBBB", claimed_side or side, claimed_side or side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def many_frames(frames: int = 2000, side: int = 2000) -> bytes:
    """Return a GIF of many large frames whose first is cut off. The others are never decoded."""
    frame = b"\x2c" + pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + pack("<HHBBB", side, side, 0xF0, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b"\x3b"


async def post_pictures(running: RunningServer, key: str, pictures: list[bytes]) -> list[httpx.Response]:
    """Send each image in a request of its own, all at once."""
    limits = httpx.Limits(max_connections=len(pictures))
    headers = {"X-API-Key": key}
    async with httpx.AsyncClient(
        base_url=running.process.url, headers=headers, timeout=WAIT_SECONDS, limits=limits
    ) as opened:
        asked = [opened.post("/v1/galleries/staff/recognize", files={"image": ("a.png", one)}) for one in pictures]
        return await asyncio.gather(*asked)


async def test_twenty_bombs_at_once_are_refused_and_take_little_memory(
    running: RunningServer, client: httpx.Client
) -> None:
    key = client.headers["x-api-key"]
    bomb = png_bomb()
    assert len(bomb) < MEBIBYTE
    await post_pictures(running, key, [png_bomb(64)] * BOMBS)  # the memory after twenty harmless requests
    before = running.resident_bytes()
    running.forget_peak()
    answers = await post_pictures(running, key, [bomb] * BOMBS)
    growth = running.peak_bytes() - before
    print(f"{BOMBS} bombs of {len(bomb)} bytes: memory grew by {growth / MEBIBYTE:.1f} MiB at most")
    assert {(answer.status_code, answer.json()["type"]) for answer in answers} == {
        (413, "urn:face-identity:image-too-large")
    }
    assert growth < 100 * MEBIBYTE


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("many frames", many_frames(), "unreadable-image"),
        ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported-image-format"),
        ("cut off", png_bomb(64)[:-20], "unreadable-image"),
        ("lying head", png_bomb(64, claimed_side=60_000), "image-too-large"),
        ("nothing", b"", "unsupported-image-format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_not_a_valid_image_is_refused(
    client: httpx.Client, name: str, content: bytes, problem: str
) -> None:
    answer = client.post("/v1/galleries/staff/recognize", files={"image": ("a.png", content)})
    assert 400 <= answer.status_code < 500
    assert answer.json()["type"] == f"urn:face-identity:{problem}"


def test_the_bytes_over_the_limit_of_an_image_are_not_read(client: httpx.Client, running: RunningServer) -> None:
    before = running.resident_bytes()
    running.forget_peak()
    large = io.BytesIO(b"\xff\xd8\xff" + bytes(64 * MEBIBYTE))
    with contextlib.suppress(httpx.WriteError):  # the server has answered and closes the connection
        answer = client.post("/v1/galleries/staff/recognize", files={"image": ("a.jpg", large)})
        assert answer.status_code == 413
    assert running.peak_bytes() - before < 50 * MEBIBYTE


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 100_000, b'{"name": "' + b"x" * 2 * MEBIBYTE + b'"}', b'{"name": "x", "name": "y"'],
    ids=["deep list", "deep object", "long", "broken"],
)
def test_deep_or_endless_json_is_refused(client: httpx.Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("/v1/galleries", "/v1/galleries/staff/recognize", "/v1/galleries/staff/people"):
        answer = client.post(path, content=body, headers=headers)
        assert answer.status_code in {413, 422}, (path, answer.text)


def test_metadata_of_any_depth_is_stored_or_refused(client: httpx.Client) -> None:
    for depth in (10, 500, 900, 5000):
        nested = '{"a":' * depth + "1" + "}" * depth
        body = f'{{"name": "depth {depth}", "metadata": {nested}}}'
        headers = {"Content-Type": "application/json"}
        made = client.post("/v1/galleries/staff/people", content=body, headers=headers)
        assert made.status_code in {201, 422}
        if made.status_code == 201:
            assert client.get(f"/v1/galleries/staff/people/{made.json()['id']}").status_code == 200
    assert client.get("/v1/galleries/staff/people").status_code == 200


class Wire:
    """A raw connection on which a test sends any bytes."""

    def __init__(self, running: RunningServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", running.process.port), timeout=WAIT_SECONDS)

    def send(self, content: bytes) -> bool:
        """Send, and return whether the server still accepts it."""
        try:
            self.socket.sendall(content)
        except OSError:
            return False
        return True

    def send_until_closed(self, piece: bytes) -> None:
        """Send the piece again and again until the server closes the connection."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.send(piece):
            assert time.monotonic() < deadline, "the server never closes the connection"
            time.sleep(0.2)

    def rest(self) -> bytes:
        """Return everything until the server closes the connection."""
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := self.socket.recv(65536):
                received += piece
        return received

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


HEAD = b"POST /v1/galleries/staff/recognize HTTP/1.1\r\nHost: service\r\n"


def test_an_endless_request_head_is_cut_off(impatient: RunningServer) -> None:
    with Wire(impatient) as wire:
        assert wire.send(HEAD)
        wire.send_until_closed(b"X-A: b\r\n")


def test_a_silent_connection_is_closed(impatient: RunningServer) -> None:
    with Wire(impatient) as wire:
        assert wire.rest() == b""


def test_the_size_of_a_request_head_is_limited(running: RunningServer) -> None:
    with Wire(running) as wire:
        wire.send(HEAD + b"Connection: close\r\nX-Long: " + b"a" * 40_000 + b"\r\n\r\n")
        assert wire.rest()[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 431"}
    with Wire(running) as wire:
        wire.send(HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(10_000)) + b"Connection: close\r\n\r\n")
        assert wire.rest()[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 431"}


def test_a_caller_without_a_key_cannot_continue_sending(running: RunningServer) -> None:
    with Wire(running) as wire:
        wire.send(HEAD + b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n")
        assert wire.socket.recv(4096).startswith(b"HTTP/1.1 401")
        wire.send_until_closed(b"x")


def test_a_trickling_body_is_cut_off(impatient: RunningServer) -> None:
    """One byte a second would hold a connection for days; a body that stops is answered 408."""
    key = impatient.new_tenant(f"trickle-{uuid.uuid4().hex[:8]}").encode()
    head = HEAD + b"X-API-Key: " + key + b"\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    with Wire(impatient) as trickle, Wire(impatient) as silent:
        trickle.send(head)
        silent.send(head)
        trickle.send_until_closed(b" ")
        assert b"HTTP/1.1 408" in silent.rest()


def test_a_body_with_two_lengths_is_refused(running: RunningServer) -> None:
    """If two servers disagree about the length, one takes for a second request what the other takes for a body."""
    for framing in (
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding : chunked\r\n",
    ):
        with Wire(running) as wire:
            wire.send(HEAD + framing + b"\r\n0\r\n\r\n")
            assert wire.rest()[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 501"}, framing


def test_an_unread_answer_is_aborted(impatient: RunningServer) -> None:
    """Otherwise a tenant whose clients do not read could not export again."""
    with impatient.client(f"unread-{uuid.uuid4().hex[:8]}") as client:
        export_unread(impatient, client)


def export_unread(impatient: RunningServer, client: httpx.Client) -> None:
    """Leave eight exports unread, and expect the next one to come."""
    client.post("/v1/galleries", json={"name": "large", "embedding_space": "external:large:512"})
    rows = b"".join(
        b'{"person": "p%d", "embedding": [%s]}\n' % (n, b",".join([b"0.1234567"] * 512)) for n in range(1500)
    )
    job = client.post("/v1/galleries/large/import", content=rows).json()["job"]
    while client.get(f"/v1/jobs/{job}").json()["status"] in {"queued", "running"}:
        time.sleep(0.1)
    key = client.headers["x-api-key"].encode()
    asked = b"GET /v1/galleries/large/export HTTP/1.1\r\nHost: service\r\nX-API-Key: " + key + b"\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for number in range(8):
            wire = stack.enter_context(Wire(impatient))
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.send(asked)
            status = b"HTTP/1.1 200" if number < STREAMS_OF_A_TENANT else b"HTTP/1.1 429"
            assert wire.socket.recv(100).startswith(status)
        assert client.get("/v1/galleries", timeout=WAIT_SECONDS).status_code == 200
        # The last export gets its turn only after the server has aborted the others.
        deadline = time.monotonic() + WAIT_SECONDS
        while (exported := client.get("/v1/galleries/large/export", timeout=WAIT_SECONDS)).status_code == 429:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert exported.content.count(b"\n") == 1500
