"""A parser of HTTP/1.1 that refuses heads which another program on the way could read differently.

h11 is lenient where RFC 9112 allows it: it takes a bare line feed as the end of a line and joins folded header lines.
A proxy that does not do the same sees another header or another request (request smuggling). And h11 limits the size of
a head only while the head is incomplete: a head that arrives at once may have any size.
"""

from typing import Any

import h11

from service.errors import HeadTooLarge, MalformedRequest, ServiceError

_END = b"\r\n\r\n"


class StrictParser(h11.Connection):
    """The server's side of one connection. `refusal` is the reason of a RemoteProtocolError that it has raised."""

    def __init__(self, maximum_head_bytes: int) -> None:
        super().__init__(h11.SERVER, maximum_head_bytes)
        self.refusal: ServiceError = MalformedRequest("the request could not be parsed")
        self._maximum_head_bytes = maximum_head_bytes

    def _extract_next_receive_event(self) -> Any:
        """Check the head first. `next_event` calls this, and then knows that the connection is unusable."""
        if self.their_state is h11.IDLE:
            self._check_head(self.trailing_data[0])
        return super()._extract_next_receive_event()

    def _check_head(self, data: bytes) -> None:
        end = data.find(_END)
        head = data if end < 0 else data[: end + 2]
        if len(head) > self._maximum_head_bytes:
            self._refuse(HeadTooLarge(f"request line and headers are limited to {self._maximum_head_bytes} bytes"))
        if _is_loose(head if end >= 0 else head.removesuffix(b"\r")):
            self._refuse(MalformedRequest("every line of the head ends with CR LF, and no line is folded"))

    def _refuse(self, refusal: ServiceError) -> None:
        self.refusal = refusal
        raise h11.RemoteProtocolError(refusal.detail, error_status_hint=refusal.status)


def _is_loose(head: bytes) -> bool:
    """Whether the head has a bare line feed, a bare carriage return or a folded line. A pattern is much slower."""
    lines = head.count(b"\r\n")
    return head.count(b"\n") != lines or head.count(b"\r") != lines or b"\n " in head or b"\n\t" in head
