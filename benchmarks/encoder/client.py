"""A client that costs nearly nothing: threads send prepared bytes over persistent connections.

Its processor time is measured too, because it takes the processors from the server that it measures.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

_BOUNDARY = "photographs-follow"


@dataclass(frozen=True)
class Answer:
    """One answer: when it was requested and received (seconds of time.perf_counter), and its status."""

    asked: float
    came: float
    status: int
    retry_after: str | None = None
    """Only for refusals."""

    @property
    def seconds(self) -> float:
        """How long the client waited."""
        return self.came - self.asked


@dataclass
class Answers:
    """All answers of a load, and the processor time of the client itself."""

    all: list[Answer] = field(default_factory=list)
    broken: int = 0
    """Connections that ended without an answer."""
    client_cpu_seconds: float = 0.0
    seconds: float = 0.0

    def statuses(self) -> dict[int, int]:
        """The number of answers for each status."""
        seen: dict[int, int] = {}
        for answer in self.all:
            seen[answer.status] = seen.get(answer.status, 0) + 1
        return seen

    def rate(self) -> float:
        """Answers with status 200 a second."""
        return self.statuses().get(200, 0) / self.seconds


def recognize_requests(url: str, key: str, gallery: str, pictures: Sequence[bytes]) -> list[bytes]:
    """Whole requests, head and body, one for each image."""
    return picture_requests(url, key, f"/v1/galleries/{gallery}/recognize", pictures)


def picture_requests(url: str, key: str, path: str, pictures: Sequence[bytes]) -> list[bytes]:
    """The same for another path."""
    return [_request(urlsplit(url).netloc, key, path, picture) for picture in pictures]


def _request(host: str, key: str, path: str, picture: bytes) -> bytes:
    before = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode()
    body = before + picture + f"\r\n--{_BOUNDARY}--\r\n".encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection:
    """A persistent connection. It is opened again if the server closed it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> Answer:
        """Send a request and return the answer. Raises OSError if there is no answer."""
        asked = time.perf_counter()
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=120)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            status, head = self._exchange(self._socket, request)
        except OSError:
            self.close()
            raise
        retry_after = _header(head, b"retry-after") if status != 200 else None
        if b"connection: close" in head:
            self.close()
        return Answer(asked, time.perf_counter(), status, retry_after)

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, connection: socket.socket, request: bytes) -> tuple[int, bytes]:
        # The server may have refused early, so the answer may be there already.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += _some(connection)
        head = bytes(received[:end]).lower()
        missing = end + 4 + int(_header(head, b"content-length") or 0) - len(received)
        while missing > 0:
            missing -= len(_some(connection))
        return int(head[9:12]), head


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionResetError("closed before the answer was complete")
    return data


def _header(head: bytes, name: bytes) -> str | None:
    for line in head.split(b"\r\n"):
        if line.startswith(name + b":"):
            return line.split(b":", 1)[1].strip().decode()
    return None


def drive(url: str, requests: Sequence[bytes], clients: int, goes_on: Callable[[int], bool]) -> Answers:
    """Run `clients` that each send the next request after each answer, while `goes_on(number of the request)`."""
    answers = Answers()
    lock, turns = threading.Lock(), count()

    def client() -> None:
        connection, mine, broken = Connection(url), [], 0
        while goes_on(turn := next(turns)):
            try:
                mine.append(connection.ask(requests[turn % len(requests)]))
            except OSError:
                broken += 1
        connection.close()
        with lock:
            answers.all += mine
            answers.broken += broken
            answers.client_cpu_seconds += time.thread_time()

    began = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.seconds = time.perf_counter() - began
    return answers
