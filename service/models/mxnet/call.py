"""One operator of a network with its inputs, ready to be written into the ONNX graph."""

from dataclasses import dataclass

from service.models.mxnet.attributes import NodeAttributes
from service.models.mxnet.onnx_graph import Graph, Tensor, TensorShape
from service.models.mxnet.parameters import ParameterFile
from service.models.mxnet.symbol import Node


@dataclass(frozen=True)
class Parameter:
    """An input from the parameter file."""

    name: str


@dataclass(frozen=True)
class Call:
    """The inputs of a translation. Its methods raise errors that name the node."""

    node: Node
    name: str
    """Name of the result: that of the node, or of the BatchNorm that folds into it."""
    attributes: NodeAttributes
    inputs: tuple[Tensor | Parameter, ...]
    parameters: ParameterFile
    graph: Graph

    @property
    def data(self) -> Tensor:
        """The first input."""
        return self.tensor(0)

    @property
    def channels(self) -> int | None:
        """Size of the second dimension of the first input, None if it is unknown. Raises InvalidModel if the input has
        no second dimension.
        """
        if self.data.rank < 2:
            raise self.attributes.refusal(f"its input has {self.data.rank} dimensions, but channels are needed")
        return self.data.shape[1]

    def tensor(self, place: int) -> Tensor:
        """The input at `place`, computed by another node."""
        found = self.inputs[place] if place < len(self.inputs) else None
        if not isinstance(found, Tensor):
            raise self.attributes.refusal(f"input {place} must be computed by a node")
        return found

    def parameter(self, place: int) -> str:
        """The name of the parameter at input `place`."""
        found = self.inputs[place] if place < len(self.inputs) else None
        if not isinstance(found, Parameter):
            raise self.attributes.refusal(f"input {place} must be a parameter")
        return found.name

    def expect(self, inputs: int, rank: int | None = None) -> None:
        """Raises InvalidModel unless there are that many inputs, the first of that rank."""
        if len(self.inputs) != inputs:
            raise self.attributes.refusal(f"it has {len(self.inputs)} inputs, but {inputs} are supported")
        if rank is not None and self.data.rank != rank:
            raise self.attributes.refusal(f"its input has {self.data.rank} dimensions, but {rank} are supported")

    def expect_shape(self, parameter: str, shape: tuple[int | None, ...]) -> None:
        """Raises InvalidModel unless the parameter has that shape. None stands for any size."""
        found = self.parameters.shape(parameter)
        if len(found) != len(shape) or any(want not in (None, size) for want, size in zip(shape, found, strict=True)):
            wanted = tuple("any" if size is None else size for size in shape)
            raise self.attributes.refusal(f"the parameter {parameter} has the shape {found}, not {wanted}")

    def add(self, op: str, inputs: list[str], shape: TensorShape, **attributes: object) -> Tensor:
        """The ONNX node that computes the operator's result."""
        return self.graph.add(op, inputs, self.name, shape, **attributes)
