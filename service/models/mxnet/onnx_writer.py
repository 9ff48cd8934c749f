"""Writes an ONNX file weight by weight, so that the largest weight bounds the memory, not the file.

The onnx package serializes a whole model in memory at once. This file writes protobuf's wire format by hand: the graph
is one length-delimited field, and a repeated field such as its weights may be appended piece by piece
(https://protobuf.dev/programming-guides/encoding).
"""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import helper

from service.errors import InvalidModel
from service.models.mxnet.onnx_graph import Graph, Weight

OPSET = 21
"""The newest opset of every ONNX Runtime in our range (1.20). The operators used here have the same meaning since."""

_IR_VERSION = 10  # the IR version of opset 21
_GRAPH_FIELD = onnx.ModelProto.GRAPH_FIELD_NUMBER
_WEIGHT_FIELD = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
_RAW_DATA_FIELD = onnx.TensorProto.RAW_DATA_FIELD_NUMBER
_LENGTH_DELIMITED = 2
_LARGEST_BYTES = 2**31 - 1  # of a protobuf message
_BYTES_OF = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.INT64: 8}


def write_onnx(graph: Graph, name: str, path: Path) -> None:
    """Write the graph, and check the file with ONNX's own checker. Raises InvalidModel if the checker refuses it."""
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, graph.inputs, graph.outputs),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="face-identity-service",
    )
    inner = model.graph.SerializeToString()
    model.ClearField("graph")
    heads = [_weight_head(weight) for weight in graph.weights.values()]
    length = len(inner) + sum(len(head) + _length_bytes(weight) for head, weight in _paired(heads, graph))
    if length > _LARGEST_BYTES:
        raise InvalidModel(f"{name}: the weights have {length} bytes, more than an ONNX file can hold")
    with path.open("wb") as file:
        file.write(model.SerializeToString() + _field(_GRAPH_FIELD, length) + inner)
        for head, weight in _paired(heads, graph):
            file.write(head)
            _write_values(weight, file)
    _check(path, name)


def _paired(heads: list[bytes], graph: Graph) -> list[tuple[bytes, Weight]]:
    return list(zip(heads, graph.weights.values(), strict=True))


def _weight_head(weight: Weight) -> bytes:
    """The part of a weight's field before its values."""
    described: bytes = onnx.TensorProto(name=weight.name, dims=weight.shape, data_type=weight.kind).SerializeToString()
    described += _field(_RAW_DATA_FIELD, _length_bytes(weight))
    return _field(_WEIGHT_FIELD, len(described) + _length_bytes(weight)) + described


def _write_values(weight: Weight, file: BinaryIO) -> None:
    values = weight.load()
    if values.shape != weight.shape:
        raise InvalidModel(f"weight {weight.name} has the shape {values.shape}, but {weight.shape} was announced")
    kind = "<f4" if weight.kind == onnx.TensorProto.FLOAT else "<i8"
    file.write(np.ascontiguousarray(values, dtype=kind).data)


def _length_bytes(weight: Weight) -> int:
    return math.prod(weight.shape) * _BYTES_OF[weight.kind]


def _field(number: int, length: int) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    """Seven bits per byte, lowest first. The eighth bit says that more bytes follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _check(path: Path, name: str) -> None:
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InvalidModel(f"{name}: the converted network is not valid: {str(error).strip()}") from None
