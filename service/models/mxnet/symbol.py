"""Reads MXNet's `symbol.json`: the nodes of a network in order, written by any version from 0.12 to 1.9.

Handles the spellings of attributes ("attrs", "attr", "param") and of references, and the auxiliary inputs that old
files leave out. Errors name the place.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from service.errors import InvalidModel

_MAXIMUM_BYTES = 64 * 1024 * 1024  # the largest symbol of these families has 0.3 MB
_PARAMETER = "null"
_BATCH_NORM_INPUTS = ("gamma", "beta", "moving_mean", "moving_var")

_Attributes = dict[str, str | int | float | bool | None]
_Reference = Annotated[list[int], msgspec.Meta(min_length=2, max_length=3)]  # [node, output] or [node, output, version]


@dataclass(frozen=True)
class Source:
    """One output of a node that another node reads."""

    node: int
    output: int


@dataclass(frozen=True)
class Node:
    """One operator, or (`op` "null") one input or parameter of the network."""

    op: str
    name: str
    attributes: dict[str, str]
    inputs: tuple[Source, ...]

    @property
    def is_variable(self) -> bool:
        """True for the network's input and its parameters."""
        return self.op == _PARAMETER


@dataclass(frozen=True)
class Symbol:
    """A network: nodes in topological order, and its outputs."""

    file_name: str
    nodes: tuple[Node, ...]
    outputs: tuple[Source, ...]


class _WrittenNode(msgspec.Struct):
    op: str
    name: str
    inputs: list[_Reference] = []
    attrs: _Attributes | None = None
    attr: _Attributes | None = None
    param: _Attributes | None = None

    def attributes(self) -> dict[str, str]:
        """All spellings together: 0.8 had `param` beside `attr`, 0.9 to 0.12 had `attr`, later versions have
        `attrs`.
        """
        written = {**(self.attr or {}), **(self.param or {}), **(self.attrs or {})}
        return {name: value if isinstance(value, str) else str(value) for name, value in written.items()}


class _WrittenSymbol(msgspec.Struct):
    nodes: list[_WrittenNode]
    heads: Annotated[list[_Reference], msgspec.Meta(min_length=1)]


def read_symbol(path: Path) -> Symbol:
    """The network in a `symbol.json`. Raises InvalidModel if the file is damaged."""
    written = _decode(path)
    nodes: list[Node] = []
    # index in `nodes` of each written node; `nodes` also holds the parameters that the file leaves out
    numbers: list[int] = []
    for place, node in enumerate(written.nodes):
        inputs = [_source(path, reference, numbers, f"node {place} ({node.name})") for reference in node.inputs]
        inputs += _inputs_left_out(node, len(inputs), nodes)
        numbers.append(len(nodes))
        nodes.append(Node(node.op, node.name, node.attributes(), tuple(inputs)))
    outputs = tuple(_source(path, head, numbers, "an output") for head in written.heads)
    _refuse_same_names(path, nodes)
    return Symbol(path.name, tuple(nodes), outputs)


def _decode(path: Path) -> _WrittenSymbol:
    try:
        if path.stat().st_size > _MAXIMUM_BYTES:
            raise InvalidModel(f"{path.name} is larger than any symbol file: {path.stat().st_size} bytes")
        return msgspec.json.decode(path.read_bytes(), type=_WrittenSymbol)
    except OSError as error:
        raise InvalidModel(f"{path.name} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, ValueError) as error:  # the second class if the text is not UTF-8
        raise InvalidModel(f"{path.name} is not an MXNet symbol file: {error}") from None


def _source(path: Path, reference: list[int], numbers: list[int], what: str) -> Source:
    node, output = reference[:2]
    if not 0 <= node < len(numbers) or output < 0:
        raise InvalidModel(f"{path.name}: {what} refers to node {node}, which does not come before it")
    return Source(numbers[node], output)


def _inputs_left_out(node: _WrittenNode, given: int, nodes: list[Node]) -> list[Source]:
    """Parameters that a BatchNorm of an old file reads without naming them. They are added to `nodes`."""
    if node.op != "BatchNorm" or not 1 <= given < 1 + len(_BATCH_NORM_INPUTS):
        return []
    added = []
    for suffix in _BATCH_NORM_INPUTS[given - 1 :]:
        added.append(Source(len(nodes), 0))
        nodes.append(Node(_PARAMETER, f"{node.name}_{suffix}", {}, ()))
    return added


def _refuse_same_names(path: Path, nodes: list[Node]) -> None:
    seen = set()
    for node in nodes:
        if node.name in seen:
            raise InvalidModel(f"{path.name}: two nodes have the name {node.name}")
        seen.add(node.name)
