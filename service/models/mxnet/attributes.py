"""Reads the attributes of one node by type, and refuses unknown attributes, so that none is ignored by mistake."""

import re
from collections.abc import Sequence

from service.errors import InvalidModel
from service.models.mxnet.symbol import Node

_TRUE, _FALSE = frozenset({"True", "true", "1"}), frozenset({"False", "false", "0"})
_ABSENT = frozenset({"None", "()", "[]"})
_INTEGER = re.compile(r"-?[0-9]{1,18}L?")  # Python 2 wrote (3L, 3L)
# Hints for training and placement. They do not affect the forward pass.
_HINT = re.compile(r"__.*__|(.*_)?(lr_mult|wd_mult)|ctx_group|force_mirroring|mirror_stage|profiler_scope")


class NodeAttributes:
    """The attributes of one node. Each method has the default of MXNet's own operator."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._unread = {name: value for name, value in node.attributes.items() if not _HINT.fullmatch(name)}

    def text(self, name: str, default: str, allowed: Sequence[str]) -> str:
        """One of `allowed`. The error names the node and the value."""
        value = self._take(name) or default
        if value not in allowed:
            raise self.refusal(f"{name}={value} is not supported; supported: {', '.join(allowed)}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """A Boolean."""
        value = self._take(name)
        if value is None:
            return default
        if value not in _TRUE | _FALSE:
            raise self.refusal(f"{name}={value} is neither True nor False")
        return value in _TRUE

    def integer(self, name: str, default: int | None = None) -> int:
        """An integer. Required if there is no default."""
        value = self._take(name)
        if value is None and default is not None:
            return default
        return self._integer(name, value)

    def real(self, name: str, default: float | None = None) -> float:
        """A real number. Required if there is no default."""
        value = self._take(name)
        if value is None and default is not None:
            return default
        try:
            return float(value or "")
        except ValueError:
            raise self.refusal(f"{name}={value} is not a number") from None

    def integers(self, name: str) -> tuple[int, ...]:
        """A tuple of integers, or () if the attribute is missing."""
        value = self._take(name)
        if value is None:
            return ()
        inside = value.strip().strip("()[]").split(",")
        return tuple(self._integer(name, part.strip()) for part in inside if part.strip())

    def pair(self, name: str, default: tuple[int, int] | None = None) -> tuple[int, int]:
        """Two integers: along the height and along the width."""
        values = self.integers(name) or default or ()
        if len(values) != 2:
            raise self.refusal(f"{name} has {len(values)} numbers, but an image needs 2")
        return values[0], values[1]

    def ignore(self, *names: str) -> None:
        """Attributes that do not affect the forward pass."""
        for name in names:
            self._unread.pop(name, None)

    def refuse_rest(self) -> None:
        """Raises InvalidModel if an attribute was neither read nor ignored."""
        if self._unread:
            name, value = next(iter(self._unread.items()))
            raise self.refusal(f"the attribute {name}={value} is unknown")

    def refusal(self, why: str) -> InvalidModel:
        """An error that names this node."""
        return InvalidModel(f"node {self._node.name} ({self._node.op}): {why}")

    def _take(self, name: str) -> str | None:
        value = self._unread.pop(name, None)
        return None if value is None or value in _ABSENT else value

    def _integer(self, name: str, value: str | None) -> int:
        if value is None or not _INTEGER.fullmatch(value):
            raise self.refusal(f"{name}={value} is not an integer" if value else f"the attribute {name} is missing")
        return int(value.rstrip("L"))
