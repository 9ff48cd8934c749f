"""Attacks on a server that others use, each by clients of one tenant or of nobody. An attack goes on until it is
cancelled and counts the answers it gets.

`python -m benchmarks.siege` measures an honest client beside each of them; tests/security/test_siege.py counts turns.
"""

import asyncio
import contextlib
import io
import itertools
import random
import resource
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import msgspec
import numpy as np
from PIL import Image as Pillow

GALLERY = "staff"
"""The honest client's gallery, and the attacker's gallery for images."""
NUMBERS = "numbers"
"""The attacker's gallery of external embeddings."""
DIMENSION = 512
CLIENTS = 24
PAUSE_SECONDS = 0.05
"""After a refusal, so that the attack costs the server more than the machine's other programs."""
MEBIBYTE = 1024 * 1024
_FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'


@dataclass
class Tally:
    """Requests begun, answers by status, and connections that ended without an answer."""

    begun: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    broken: int = 0

    @property
    def served(self) -> int:
        """Requests whose work was done. Refusals cost no turn."""
        return sum(number for status, number in self.statuses.items() if status < 300)

    def count(self, status: int) -> None:
        """Count one answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1


@dataclass(frozen=True)
class Attacker:
    """The address, a tenant's key, an operator's key, and the count of what was answered."""

    url: str
    key: str
    operator_key: str
    tally: Tally = field(default_factory=Tally)

    def client(self, key: str | None = None, clients: int = CLIENTS) -> httpx.AsyncClient:
        """A client with as many connections as needed. An empty key sends none."""
        sent = self.key if key is None else key
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"X-API-Key": sent} if sent else {},
            timeout=None,  # noqa: S113 - an attacker waits
            limits=httpx.Limits(max_connections=clients),
        )

    async def repeat(self, act: Callable[[int], Awaitable[httpx.Response]], clients: int = CLIENTS) -> None:
        """Send requests one after another in each of `clients` tasks. `act` gets the number of its task."""

        async def one(number: int) -> None:
            while True:
                self.tally.begun += 1
                try:
                    answer = await act(number)
                except (httpx.TransportError, OSError):
                    self.tally.broken += 1
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                self.tally.count(answer.status_code)
                if answer.status_code >= 300:
                    await asyncio.sleep(PAUSE_SECONDS)

        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(one(number))

    @contextlib.asynccontextmanager
    async def connection(self, sent: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A plain connection on which `sent` is the beginning."""
        address = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(sent)
            self.tally.begun += 1
            yield reader, writer
        finally:
            writer.close()

    async def hold(self, one: Callable[[int], Awaitable[None]], clients: int) -> None:
        """Hold connections in each of `clients` tasks, a new one when the server has ended the one before."""

        async def again(number: int) -> None:
            while True:
                with contextlib.suppress(OSError):
                    await one(number)
                self.tally.broken += 1
                await asyncio.sleep(PAUSE_SECONDS)

        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(again(number))

    def head(self, line: str, *headers: str) -> bytes:
        """The head of a request with the attacker's key."""
        host = urlsplit(self.url).netloc
        return "\r\n".join([f"{line} HTTP/1.1", f"Host: {host}", f"X-API-Key: {self.key}", *headers, "", ""]).encode()


Attack = Callable[[Attacker], Awaitable[None]]


async def prepare(attacker: Attacker, people: int = 200) -> None:
    """Make the attacker's galleries, the second with people to search and export."""
    async with attacker.client() as client:
        await client.post("/v1/galleries", json={"name": GALLERY})
        await client.post("/v1/galleries", json={"name": NUMBERS, "embedding_space": f"external:siege:{DIMENSION}"})
        await client.post(f"/v1/galleries/{NUMBERS}/import", content=rows(people))


def rows(people: int, seed: int = 1) -> bytes:
    """NDJSON rows of people with one reference each."""
    chance = np.random.default_rng(seed)
    lines = [
        msgspec.json.encode({"person": f"{seed} {number}", "embedding": chance.standard_normal(DIMENSION).tolist()})
        for number in range(people)
    ]
    return b"\n".join(lines)


async def long_numbers(attacker: Attacker) -> None:
    """Import rows whose one number has two million digits, or whose one text has as many characters."""
    bodies = [
        b'{"person": "x", "embedding": [' + b"1" * (2 * MEBIBYTE) + b"x]}",
        b'{"person": "x", "embedding": "' + b"1" * (2 * MEBIBYTE) + b'x"}',
        b'{"person": "x", "embedding": [' + b"0.5," * MEBIBYTE + b"1]}",
        b'{"person": "' + b"x" * (4 * MEBIBYTE) + b'", "embedding": [1]}',
    ]
    async with attacker.client() as client:
        await attacker.repeat(
            lambda number: client.post(f"/v1/galleries/{NUMBERS}/import", content=bodies[number % len(bodies)]), 4
        )


async def costly_images(attacker: Attacker) -> None:
    """Recognize images below every limit of bytes and pixels that take long to decode."""
    images = [many_scans(), empty_segments(), empty_chunks(), large_image()]
    async with attacker.client() as client:
        path = f"/v1/galleries/{GALLERY}/recognize"
        await attacker.repeat(
            lambda number: client.post(path, files={"image": ("a.jpg", images[number % len(images)])}), 8
        )


async def many_probes(attacker: Attacker) -> None:
    """Search for a thousand probes in one request; every second client leaves before the answer."""
    probes = np.random.default_rng(2).standard_normal((1000, DIMENSION)).round(3).tolist()
    body = msgspec.json.encode({"embeddings": probes})
    headers = {"Content-Type": "application/json"}
    path = f"/v1/galleries/{NUMBERS}/recognize"
    async with attacker.client() as client:

        async def act(number: int) -> httpx.Response:
            asked = client.post(path, content=body, headers=headers)
            return await (asyncio.wait_for(asked, 0.5) if number % 2 else asked)

        async def act_or_leave(number: int) -> httpx.Response:
            try:
                return await act(number)
            except TimeoutError:
                return httpx.Response(499)

        await attacker.repeat(act_or_leave, 12)


async def unfinished_bodies(attacker: Attacker) -> None:
    """Send most of a large JSON body or image, and then one byte at a time."""

    async def one(number: int) -> None:
        kinds = ["application/json", "image/jpeg", "multipart/form-data; boundary=x"]
        size = 16 * MEBIBYTE
        head = attacker.head(
            f"POST /v1/galleries/{GALLERY}/recognize",
            f"Content-Type: {kinds[number % len(kinds)]}",
            f"Content-Length: {size}",
        )
        start = _FORM if number % len(kinds) == 2 else b""
        async with attacker.connection(head + start) as (reader, writer):
            for _ in range(size // MEBIBYTE - 1):
                writer.write(b"[" * MEBIBYTE)
                await writer.drain()
            while not reader.at_eof():
                writer.write(b"[")
                await writer.drain()
                await asyncio.sleep(0.5)

    await attacker.hold(one, CLIENTS)


async def full_disk(attacker: Attacker) -> None:
    """Upload datasets that no quota allows, without telling their length."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"person": "x", "embedding": [1'
        for _ in range(64):
            yield b"," + b" " * MEBIBYTE

    async with attacker.client() as client:
        path = f"/v1/galleries/{NUMBERS}/import"
        await attacker.repeat(lambda _: client.post(path, content=pieces()), 4)


async def slow_readers(attacker: Attacker) -> None:
    """Ask for exports and read a few bytes a second."""

    async def one(_: int) -> None:
        asked = attacker.head(f"GET /v1/galleries/{NUMBERS}/export?format=ndjson")
        async with attacker.connection(asked) as (reader, _writer):
            while await reader.read(64):  # noqa: ASYNC110 - reading slowly is the attack
                await asyncio.sleep(0.5)

    await attacker.hold(one, 8)


async def many_images(attacker: Attacker) -> None:
    """Recognize images as fast as 24 clients can, and import datasets beside them."""
    image = large_image((1280, 960))
    turns = itertools.count()
    async with attacker.client() as client:

        async def act(number: int) -> httpx.Response:
            if number == 0:
                return await client.post(f"/v1/galleries/{NUMBERS}/import", content=rows(500, next(turns)))
            return await client.post(f"/v1/galleries/{GALLERY}/recognize", files={"image": ("a.jpg", image)})

        await attacker.repeat(act, CLIENTS)


async def strangers(attacker: Attacker) -> None:
    """Send images without a key on 48 connections."""
    image = large_image((1280, 960))
    async with attacker.client(key="", clients=48) as client:
        path = f"/v1/galleries/{GALLERY}/recognize"
        await attacker.repeat(lambda _: client.post(path, files={"image": ("a.jpg", image)}), 48)


async def silent_connections(attacker: Attacker) -> None:
    """Hold more than a thousand connections open and say nothing."""
    _allow_files(4096)

    async def one(_: int) -> None:
        async with attacker.connection() as (reader, _writer):
            await reader.read(1)

    await attacker.hold(one, 1100)


async def operators(attacker: Attacker) -> None:
    """Send sixteen requests of the operator at once, again and again."""
    async with attacker.client(key=attacker.operator_key, clients=16) as client:
        await attacker.repeat(lambda _: client.get("/v1/operator/tenants"), 16)


ATTACKS: dict[str, Attack] = {
    "long numbers": long_numbers,
    "costly images": costly_images,
    "1,000 probes": many_probes,
    "unfinished bodies": unfinished_bodies,
    "full disk": full_disk,
    "slow readers": slow_readers,
    "many images": many_images,
    "strangers": strangers,
    "silent connections": silent_connections,
    "operators": operators,
}


def many_scans(side: int = 2000, scans: int = 1500) -> bytes:
    """A progressive JPEG whose last scan is repeated. libjpeg decodes the whole image for each scan."""
    content = io.BytesIO()
    Pillow.new("RGB", (side, side), (90, 120, 150)).save(content, "JPEG", progressive=True, quality=30)
    whole = content.getvalue()
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + scan * scans + b"\xff\xd9"


def empty_segments(segments: int = 2_000_000) -> bytes:
    """A JPEG with millions of empty comments."""
    content = io.BytesIO()
    Pillow.new("RGB", (64, 64), (90, 120, 150)).save(content, "JPEG")
    whole = content.getvalue()
    return whole[:2] + b"\xff\xfe\x00\x02" * segments + whole[2:]


def empty_chunks(chunks: int = 1_000_000) -> bytes:
    """A PNG with a million empty chunks."""
    content = io.BytesIO()
    Pillow.new("RGB", (64, 64), (90, 120, 150)).save(content, "PNG")
    whole = content.getvalue()
    chunk = struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    return whole[:33] + chunk * chunks + whole[33:]


def large_image(size: tuple[int, int] = (7000, 5700)) -> bytes:
    """A JPEG of noise without a face, by default of 40 million pixels."""
    chance = random.Random(3)  # noqa: S311 - the same image every time
    tile = Pillow.effect_noise((256, 256), 40 + chance.random())
    image = Pillow.new("L", size)
    for x, y in itertools.product(range(0, size[0], 256), range(0, size[1], 256)):
        image.paste(tile, (x, y))
    content = io.BytesIO()
    image.convert("RGB").save(content, "JPEG", quality=50)
    return content.getvalue()


def _allow_files(number: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number if hard == resource.RLIM_INFINITY else min(number, hard), hard))
