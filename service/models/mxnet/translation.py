"""Translates a symbol and its parameters to an ONNX graph: selects the nodes, their order and their operators."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from onnx import TensorProto, helper

from service.errors import InvalidModel
from service.models.mxnet.attributes import NodeAttributes
from service.models.mxnet.batch_norm import foldable
from service.models.mxnet.call import Call, Parameter
from service.models.mxnet.layers import LAYERS
from service.models.mxnet.onnx_graph import Graph, Tensor
from service.models.mxnet.operators import OPERATORS
from service.models.mxnet.parameters import ParameterFile
from service.models.mxnet.symbol import Source, Symbol

INPUT = "data"
"""Name of the image input in every network of these families."""

_BATCH = "batch"


def translate(
    symbol: Symbol, parameters: ParameterFile, outputs: Sequence[Source], size: tuple[int, int] | None
) -> Graph:
    """The graph that computes `outputs` from images of `size` (height, width), or of any size.

    Raises InvalidModel, which names the node with an unknown operator or attribute, or the missing parameter.
    """
    return _Translation(symbol, parameters, tuple(outputs)).run(size)


@dataclass
class _Translation:
    symbol: Symbol
    parameters: ParameterFile
    outputs: tuple[Source, ...]
    graph: Graph = field(default_factory=Graph)
    computed: dict[int, Tensor] = field(default_factory=dict)

    def run(self, size: tuple[int, int] | None) -> Graph:
        wanted = _wanted(self.symbol, self.outputs)
        folded = foldable(self.symbol, wanted, self.outputs)
        vanishing = set(folded.values())
        self._add_input(size)
        for number in wanted:
            node = self.symbol.nodes[number]
            if number in vanishing:
                self.computed[number] = self.computed[node.inputs[0].node]
            elif not node.is_variable:
                self.computed[number] = self._node(number, folded.get(number))
        for source in self.outputs:
            self._add_output(source)
        return self.graph

    def _add_input(self, size: tuple[int, int] | None) -> None:
        shape = (_BATCH, 3, *(size or ("height", "width")))
        self.graph.inputs.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape))
        for number, node in enumerate(self.symbol.nodes):
            if node.is_variable and node.name == INPUT:
                self.computed[number] = Tensor(INPUT, (None, 3, *(size or (None, None))))

    def _add_output(self, source: Source) -> None:
        """The output under the name of its node. The name stays if the node itself was folded."""
        name, tensor = self.symbol.nodes[source.node].name, self._input(source)
        if not isinstance(tensor, Tensor):
            raise InvalidModel(f"{self.symbol.file_name}: the output {name} is a parameter")
        if tensor.rank < 2:
            raise InvalidModel(f"{self.symbol.file_name}: the output {name} has {tensor.rank} dimensions")
        if tensor.name != name:
            self.graph.add("Identity", [tensor.name], name, tensor.shape)
        shape = (_BATCH, *tensor.shape[1:])
        self.graph.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def _node(self, number: int, norm_number: int | None) -> Tensor:
        """Write a node, with the BatchNorm that folds into it. The result has the name of the BatchNorm."""
        norm = None if norm_number is None else self._call(norm_number)
        call = self._call(number, None if norm is None else norm.name)
        result = self._translated(call, norm)
        call.attributes.refuse_rest()
        return result

    def _translated(self, call: Call, norm: Call | None) -> Tensor:
        op = call.node.op
        if op in LAYERS:
            return LAYERS[op](call, norm)
        if op in OPERATORS:
            return OPERATORS[op](call)
        raise InvalidModel(f"node {call.node.name}: the operator {op} is not supported")

    def _call(self, number: int, name: str | None = None) -> Call:
        node = self.symbol.nodes[number]
        inputs = tuple(self._input(source) for source in node.inputs)
        return Call(node, name or node.name, NodeAttributes(node), inputs, self.parameters, self.graph)

    def _input(self, source: Source) -> Tensor | Parameter:
        node = self.symbol.nodes[source.node]
        if source.output:
            raise InvalidModel(f"node {node.name} ({node.op}): only its first output is supported")
        if node.is_variable and node.name != INPUT:
            return Parameter(node.name)
        # A folded BatchNorm is read before the layer in front of it is computed.
        return self.computed.get(source.node, Tensor(node.name, ()))


def _wanted(symbol: Symbol, outputs: Sequence[Source]) -> list[int]:
    """Numbers of the nodes that the outputs depend on, in order. Training heads are not among them."""
    waiting, found = [source.node for source in outputs], set[int]()
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            waiting.extend(source.node for source in symbol.nodes[number].inputs)
    return sorted(found)
