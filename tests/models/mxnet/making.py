"""Makes MXNet symbols and parameter files, in every spelling of 0.8 to 1.9, without MXNet and without our readers."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Spelling = Literal["attrs", "attr", "param"]
Header = Literal["legacy", "v1", "v2", "v3"]
_VERSIONS = {"attrs": 10901, "attr": 1200, "param": 800}
_MAGIC = {"v1": 0xF993FAC8, "v2": 0xF993FAC9, "v3": 0xF993FACA}
_FLAGS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}
AUXILIARY = ("_moving_mean", "_moving_var", "_running_mean", "_running_var")


@dataclass
class Making:
    """A network under construction: nodes in order, and its parameters with random numbers that keep it well scaled."""

    seed: int = 0
    nodes: list[dict[str, Any]] = field(default_factory=list)
    parameters: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self.data = self.variable("data")

    def variable(self, name: str) -> int:
        self.nodes.append({"op": "null", "name": name, "inputs": []})
        return len(self.nodes) - 1

    def parameter(self, name: str, values: np.ndarray) -> int:
        self.parameters[name] = values.astype(np.float32)
        return self.variable(name)

    def op(self, op: str, name: str, inputs: Sequence[int], **attributes: object) -> int:
        written = {key: str(value) for key, value in attributes.items()}
        self.nodes.append({"op": op, "name": name, "attrs": written, "inputs": [[number, 0, 0] for number in inputs]})
        return len(self.nodes) - 1

    def convolution(
        self, name: str, data: int, sizes: tuple[int, int], kernel: int = 3, *, bias: bool = False, **attributes: object
    ) -> int:
        """`sizes`: channels before and after."""
        before, after = sizes[0] // int(str(attributes.get("num_group", 1))), sizes[1]
        scale = np.sqrt(2 / (before * kernel * kernel))
        inputs = [data, self.parameter(f"{name}_weight", self._normal(after, before, kernel, kernel) * scale)]
        if bias:
            inputs.append(self.parameter(f"{name}_bias", self._normal(after) * 0.1))
        spelled = {"kernel": (kernel, kernel), "num_filter": after, "no_bias": not bias, **attributes}
        return self.op("Convolution", name, inputs, **spelled)

    def fully_connected(self, name: str, data: int, sizes: tuple[int, int]) -> int:
        weight = self.parameter(f"{name}_weight", self._normal(sizes[1], sizes[0]) / np.sqrt(sizes[0]))
        bias = self.parameter(f"{name}_bias", self._normal(sizes[1]) * 0.1)
        return self.op("FullyConnected", name, [data, weight, bias], num_hidden=sizes[1])

    def batch_norm(self, name: str, data: int, channels: int, **attributes: object) -> int:
        values = {
            "gamma": self._random.uniform(0.5, 1.5, channels),
            "beta": self._normal(channels) * 0.1,
            "moving_mean": self._normal(channels) * 0.1,
            "moving_var": self._random.uniform(0.5, 1.5, channels),
        }
        inputs = [self.parameter(f"{name}_{key}", value) for key, value in values.items()]
        return self.op("BatchNorm", name, [data, *inputs], **{"eps": 2e-05, "fix_gamma": False, **attributes})

    def prelu(self, name: str, data: int, channels: int) -> int:
        gamma = self.parameter(f"{name}_gamma", self._random.uniform(0.1, 0.4, channels))
        return self.op("LeakyReLU", name, [data, gamma], act_type="prelu")

    def relu(self, name: str, data: int) -> int:
        return self.op("Activation", name, [data], act_type="relu")

    def symbol(self, outputs: Sequence[int], spelling: Spelling = "attrs") -> bytes:
        """The `symbol.json` of the network."""
        nodes, numbers = _spelled(self.nodes, spelling)
        written = {
            "nodes": nodes,
            "arg_nodes": [number for number, node in enumerate(nodes) if node["op"] == "null"],
            "node_row_ptr": list(range(len(nodes) + 1)),
            "heads": [[numbers[output], 0] if spelling == "param" else [numbers[output], 0, 0] for output in outputs],
            "attrs": {"mxnet_version": ["int", _VERSIONS[spelling]]},
        }
        return json.dumps(written).encode()

    def save(self, folder: Path, outputs: Sequence[int], spelling: Spelling = "attrs", header: Header = "v2") -> Path:
        """Write `model-symbol.json` and `model-0000.params`, and return the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model-symbol.json").write_bytes(self.symbol(outputs, spelling))
        named = {prefixed(name): values for name, values in self.parameters.items()}
        write_parameters(folder / "model-0000.params", named, header)
        return folder

    def _normal(self, *shape: int) -> np.ndarray:
        return self._random.standard_normal(shape, dtype=np.float32)


def prefixed(name: str) -> str:
    return ("aux:" if name.endswith(AUXILIARY) else "arg:") + name


def write_parameters(path: Path, arrays: Mapping[str, np.ndarray], header: Header = "v2") -> None:
    """Write a `.params` file with every array under that kind of header."""
    with path.open("wb") as file:
        file.write(struct.pack("<QQQ", 0x112, 0, len(arrays)))
        for values in arrays.values():
            file.write(array_header(values, header))
            file.write(np.ascontiguousarray(values).data)
        file.write(struct.pack("<Q", len(arrays)))
        for name in arrays:
            file.write(struct.pack("<Q", len(name.encode())) + name.encode())


def array_header(values: np.ndarray, header: Header) -> bytes:
    dimensions = values.shape
    if header == "legacy":
        shape = struct.pack(f"<I{len(dimensions)}I", len(dimensions), *dimensions)
    else:
        storage = b"" if header == "v1" else struct.pack("<i", 0)
        shape = struct.pack("<I", _MAGIC[header]) + storage
        shape += struct.pack(f"<i{len(dimensions)}q", len(dimensions), *dimensions)
    return shape + struct.pack("<iii", 1, 0, _FLAGS[values.dtype.name])  # on CPU 0


def _spelled(nodes: list[dict[str, Any]], spelling: Spelling) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the nodes as that version wrote them, and the new number of each (or -1).

    0.12 kept attributes in `attr`; 0.8 kept them in `param`, used two numbers for a reference and left auxiliary
    variables out.
    """
    old = spelling == "param"
    kept = [number for number, node in enumerate(nodes) if not (old and node["name"].endswith(AUXILIARY))]
    numbers = [kept.index(number) if number in kept else -1 for number in range(len(nodes))]
    written = []
    for position in kept:
        node = {key: value for key, value in nodes[position].items() if key != "attrs"}
        references = [[numbers[number], *rest] for number, *rest in node["inputs"] if numbers[number] >= 0]
        node["inputs"] = [reference[:2] for reference in references] if old else references
        if nodes[position].get("attrs") or (old and node["op"] != "null"):
            node[spelling] = nodes[position].get("attrs", {})
        written.append(node | ({"param": {}, **node, "backward_source_id": -1} if old else {}))
    return written, numbers
