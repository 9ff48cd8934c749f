"""An ONNX graph while it is built: nodes in memory, weights as functions that load them when the file is written."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

Values = npt.NDArray[np.float32] | npt.NDArray[np.int64]
TensorShape = tuple[int | None, ...]
"""None stands for a size that is known only when the network runs."""


@dataclass(frozen=True)
class Tensor:
    """The result of a node: its name in the graph, and its shape as far as it is known."""

    name: str
    shape: TensorShape

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


@dataclass(frozen=True)
class Weight:
    """A constant of the graph. `load` reads and computes it at each call, so that one weight at a time is in memory."""

    name: str
    shape: tuple[int, ...]
    kind: int
    load: Callable[[], Values]


@dataclass
class Graph:
    """Nodes in the order of execution, and their weights."""

    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)

    @property
    def output_channels(self) -> list[int | None]:
        """Size of each output's second dimension, None if only the running network knows it."""
        sizes = [output.type.tensor_type.shape.dim[1].dim_value for output in self.outputs]
        return [size or None for size in sizes]

    def add(self, op: str, inputs: list[str], name: str, shape: TensorShape, **attributes: object) -> Tensor:
        """Append a node, whose only output has its name."""
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return Tensor(name, shape)

    def floats(self, name: str, shape: tuple[int, ...], load: Callable[[], npt.NDArray[np.float32]]) -> str:
        """Append a weight of real numbers, and return its name. One of the same name is kept."""
        self.weights.setdefault(name, Weight(name, shape, onnx.TensorProto.FLOAT, load))
        return name

    def integers(self, name: str, values: list[int]) -> str:
        """Append a constant list of integers, and return its name."""
        constant = np.array(values, dtype=np.int64)
        self.weights[name] = Weight(name, constant.shape, onnx.TensorProto.INT64, lambda: constant)
        return name

    def reals(self, name: str, values: list[float]) -> str:
        """Append a constant list of real numbers, and return its name."""
        return self.floats(name, (len(values),), lambda: np.array(values, dtype=np.float32))

    def scalar(self, name: str, value: float) -> str:
        """Append a constant number, and return its name."""
        return self.floats(name, (), lambda: np.array(value, dtype=np.float32))
