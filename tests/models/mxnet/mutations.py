"""Mutations of model folders: changed, dropped and repeated parts of a symbol, and changed bytes of both files."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

_VALUES = ["", "0", "-1", "1", "2", "999999999999999999", "(0,0)", "(1,)", "(3,3,3)", "()", "True", "nan", "x", "None"]

Network = dict[str, Any]
Mutation = Callable[[random.Random, Network], None]


def _node(chance: random.Random, network: Network) -> dict[str, Any]:
    node: dict[str, Any] = chance.choice(network["nodes"])
    return node


def _operator(chance: random.Random, network: Network) -> None:
    _node(chance, network)["op"] = _node(chance, network)["op"]


def _attribute(chance: random.Random, network: Network) -> None:
    attributes = _node(chance, network).setdefault("attrs", {})
    others = [name for node in network["nodes"] for name in node.get("attrs", {})]
    attributes[chance.choice(others)] = chance.choice(_VALUES)


def _missing_attribute(chance: random.Random, network: Network) -> None:
    attributes = _node(chance, network).get("attrs", {})
    if attributes:
        attributes.pop(chance.choice(list(attributes)))


def _inputs(chance: random.Random, network: Network) -> None:
    number = chance.randrange(len(network["nodes"]))
    count = chance.randrange(5)
    network["nodes"][number]["inputs"] = [[chance.randrange(max(1, number)), 0, 0] for _ in range(count)]


def _missing_input(chance: random.Random, network: Network) -> None:
    inputs = _node(chance, network)["inputs"]
    if inputs:
        inputs.pop(chance.randrange(len(inputs)))


def _head(chance: random.Random, network: Network) -> None:
    network["heads"] = [[chance.randrange(len(network["nodes"])), chance.choice([0, 0, 1]), 0]]


def _name(chance: random.Random, network: Network) -> None:
    _node(chance, network)["name"] = chance.choice(["data", "fc1", "", _node(chance, network)["name"] + "x"])


_MUTATIONS: list[Mutation] = [
    _operator, _attribute, _attribute, _missing_attribute, _inputs, _missing_input, _missing_input, _head, _name
]  # fmt: skip


def mutate(chance: random.Random, source: Path, target: Path) -> None:
    """Write a changed copy of the model folder `source`."""
    symbol, parameters = source / "model-symbol.json", source / "model-0000.params"
    network, weights = json.loads(symbol.read_bytes()), bytearray(parameters.read_bytes())
    text = b""
    if chance.random() < 0.8:
        for _ in range(chance.randrange(1, 4)):
            chance.choice(_MUTATIONS)(chance, network)
        text = json.dumps(network).encode()
    else:
        text = _changed_bytes(chance, symbol.read_bytes())
    if chance.random() < 0.3:
        weights = bytearray(_changed_bytes(chance, bytes(weights)))
    target.mkdir(exist_ok=True)
    (target / symbol.name).write_bytes(text)
    (target / parameters.name).write_bytes(weights)


def _changed_bytes(chance: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randrange(1, 4)):
        changed[chance.randrange(min(len(changed), 4000))] = chance.randrange(256)
    return bytes(changed[: chance.randrange(len(changed))] if chance.random() < 0.1 else changed)
