"""Limits of open connections: of the process, and of each address.

A connection without a request in progress is idle. A new connection over a limit closes the oldest idle one: a limit
that only refuses would let a thousand silent connections keep everybody out. If no connection is idle, a few reserved
ones still answer whether the server is alive and ready.
"""

import ipaddress
from collections.abc import Sequence
from typing import Protocol

RESERVED_CONNECTIONS = 16
"""Connections above the limit of the process. They answer for HEALTH_PATHS only."""
HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
ONLY_HEALTH = "only_health"
"""Name in the state of a request: it came over a reserved connection."""
_IPV6_NETWORK_BITS = 64


class LimitedConnection(Protocol):
    """A connection as its limits see it."""

    def close_for_another(self) -> None:
        """Close the idle connection, so that another one takes its place."""


class _Group:
    """Connections that share a limit. Each dictionary is in order of time, the oldest first."""

    def __init__(self) -> None:
        self.count = 0
        self.silent: dict[LimitedConnection, None] = {}
        """Idle connections that have never had an answer."""
        self.kept: dict[LimitedConnection, None] = {}
        """Idle connections after an answer. A client may be about to use them again, so they are closed later."""

    def oldest_idle(self) -> LimitedConnection | None:
        return next(iter(self.silent), None) or next(iter(self.kept), None)

    def leave_idle(self, connection: LimitedConnection) -> None:
        self.silent.pop(connection, None)
        self.kept.pop(connection, None)


class ConnectionLimits:
    """The open connections of one process. Every operation takes the same time, however many there are.

    `uncounted`: addresses and networks without a limit of their own, such as those of proxies.
    """

    def __init__(self, most: int, most_per_address: int, uncounted: Sequence[str] = ()) -> None:
        self.most = most
        self._most_per_address = most_per_address
        self._uncounted = [ipaddress.ip_network(each, strict=False) for each in uncounted]
        self._all = _Group()
        self._of_address: dict[str, _Group] = {}
        self._addresses: dict[LimitedConnection, str | None] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def enter(self, connection: LimitedConnection, host: str | None) -> bool:
        """Count a new connection of that host (None: a Unix socket). Returns whether it may have a place.

        The oldest idle connection is closed for it, if there is one: of the same address over the limit of an address,
        else of all.
        """
        address = self._address(host)
        if address is not None and self._group(address).count >= self._most_per_address:
            if not self._close_oldest(self._group(address)):
                return False
        elif (
            self._all.count >= self.most
            and not self._close_oldest(self._all)
            and len(self) >= self.most + RESERVED_CONNECTIONS
        ):
            return False
        self._addresses[connection] = address
        for group in self._groups(connection):
            group.count += 1
            group.silent[connection] = None
        return True

    @property
    def is_over(self) -> bool:
        """Whether the newest connection is a reserved one."""
        return self._all.count > self.most

    def begin_request(self, connection: LimitedConnection) -> None:
        """The connection is not idle any more."""
        for group in self._groups(connection):
            group.leave_idle(connection)

    def end_request(self, connection: LimitedConnection) -> None:
        """The connection is idle again."""
        for group in self._groups(connection):
            group.leave_idle(connection)
            group.kept[connection] = None

    def leave(self, connection: LimitedConnection) -> None:
        """The connection is closed. Does nothing the second time."""
        for group in self._groups(connection):
            group.leave_idle(connection)
            group.count -= 1
        address = self._addresses.pop(connection, None)
        if address is not None and not self._of_address[address].count:
            del self._of_address[address]

    def _close_oldest(self, group: _Group) -> bool:
        oldest = group.oldest_idle()
        if oldest is None:
            return False
        self.leave(oldest)  # now: the loop reports the end of the connection later
        oldest.close_for_another()
        return True

    def _groups(self, connection: LimitedConnection) -> list[_Group]:
        """The groups of an open connection, none of a closed one."""
        if connection not in self._addresses:
            return []
        address = self._addresses[connection]
        return [self._all] if address is None else [self._all, self._group(address)]

    def _group(self, address: str) -> _Group:
        return self._of_address.setdefault(address, _Group())

    def _address(self, host: str | None) -> str | None:
        """The host as its limit counts it, None if it has none. One client has a whole /64 network of IPv6."""
        if host is None:
            return None
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return host
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._uncounted):
            return None
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False))
        return str(address)
