"""dlib's face recognition ResNet as an ONNX model, built from dlib's own weight file.

dlib runs it on one thread while it holds Python's interpreter lock (72 ms per face here). ONNX Runtime needs a tenth of
that and does not hold the lock. The network is `anet_type` of dlib's dnn_face_recognition_ex.cpp; a test compares the
numbers. It costs 180 lines, because no converter reads dlib's weight files.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from service.errors import InvalidModel

CHIP_SIDE = 150
DIMENSION = 128

_MEAN_RGB = np.array([122.782, 117.001, 104.298])
_SCALE = 256.0
_LEVELS = (
    (32, False),
    (32, False),
    (32, False),
    (64, True),
    (64, False),
    (64, False),
    (64, False),
    (128, True),
    (128, False),
    (128, False),
    (256, True),
    (256, False),
    (256, False),
    (256, True),
)
"""Residual units in order: number of filters, and whether the unit halves the resolution."""

_INPUT = "chips"
_OUTPUT = "embeddings"

Floats = npt.NDArray[np.float32]


def dlib_onnx_model(weights: Path) -> bytes:
    """The serialized network: chips (n, 3, 150, 150) of 0..255 RGB in, embeddings (n, 128) out.

    Raises InvalidModel if the file is not dlib's.
    """
    try:
        return _Network(_layers(weights.read_bytes())).serialized()
    except (OSError, struct.error, StopIteration, ValueError, IndexError):
        raise InvalidModel(f"{weights.name} is not dlib's face recognition network") from None


def _layers(data: bytes) -> Iterator[Floats]:
    """The parameters of every layer that has some, in the order of the forward pass.

    A layer is stored as its name, then a tensor of version 2: four sizes and raw floats (dlib's serialize.h).
    """
    place = 0
    while True:
        found = [
            (data.find(tag, place), tag, skipped) for tag, skipped in ((b"con_4", 0), (b"affine_", 0), (b"fc_2", 2))
        ]
        start, tag, skipped = min((one for one in found if one[0] >= 0), default=(-1, b"", 0))
        if start < 0:
            return
        place = start + len(tag)
        for _ in range(skipped + 1):  # sizes of the layer, then the version of the tensor
            _, place = _integer(data, place)
        size = 1
        for _ in range(4):
            length, place = _integer(data, place)
            size *= length
        yield np.frombuffer(data, "<f4", size, place)
        place += 4 * size


def _integer(data: bytes, place: int) -> tuple[int, int]:
    """dlib's integer: a byte with the number of bytes, then the bytes, lowest first."""
    length = data[place] & 0x0F
    return int.from_bytes(data[place + 1 : place + 1 + length], "little"), place + 1 + length


class _Flow(NamedTuple):
    """A tensor inside the network."""

    name: str
    channels: int
    side: int


class _Network:
    """Builds the graph. A convolution absorbs the affine layer behind it."""

    def __init__(self, layers: Iterator[Floats]) -> None:
        self._layers = layers
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def serialized(self) -> bytes:
        import onnx
        from onnx import TensorProto, helper

        flow = self._stem(_Flow(_INPUT, 3, CHIP_SIDE))
        for filters, halves in _LEVELS:
            flow = self._residual(flow, filters, halves)
        pooled = self._add("GlobalAveragePool", [flow.name])
        weights = self._constant(next(self._layers).reshape(flow.channels, DIMENSION))
        self._add("MatMul", [self._add("Flatten", [pooled], axis=1), weights], output=_OUTPUT)
        shape_in, shape_out = ["batch", 3, CHIP_SIDE, CHIP_SIDE], ["batch", DIMENSION]
        graph = helper.make_graph(
            self._nodes,
            "dlib_face_recognition_resnet_v1",
            [helper.make_tensor_value_info(_INPUT, TensorProto.FLOAT, shape_in)],
            [helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, shape_out)],
            self._constants,
        )
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
        onnx.checker.check_model(model)
        serialized: bytes = model.SerializeToString()
        return serialized

    def _stem(self, flow: _Flow) -> _Flow:
        """The first convolution scales the pixels, too. It has no padding, so this is exact."""
        flow = self._relu(self._convolution(flow, 32, kernel=7, stride=2, scaled=True))
        pooled = self._add("MaxPool", [flow.name], kernel_shape=[3, 3], strides=[2, 2])
        return _Flow(pooled, flow.channels, (flow.side - 3) // 2 + 1)

    def _residual(self, flow: _Flow, filters: int, halves: bool) -> _Flow:
        inner = self._relu(self._convolution(flow, filters, kernel=3, stride=2 if halves else 1))
        inner = self._convolution(inner, filters, kernel=3, stride=1)
        passed = flow
        if halves:
            pooled = self._add("AveragePool", [flow.name], kernel_shape=[2, 2], strides=[2, 2])
            passed = _Flow(pooled, flow.channels, (flow.side - 2) // 2 + 1)
        channels, side = max(inner.channels, passed.channels), max(inner.side, passed.side)
        both = [self._padded(one, channels, side) for one in (inner, passed)]
        return self._relu(_Flow(self._add("Add", both), channels, side))

    def _padded(self, flow: _Flow, channels: int, side: int) -> str:
        """dlib adds tensors of different sizes as if the smaller one ended in zeros."""
        if (flow.channels, flow.side) == (channels, side):
            return flow.name
        ends = [0, channels - flow.channels, side - flow.side, side - flow.side]
        return self._add("Pad", [flow.name, self._constant(np.array([0, 0, 0, 0, *ends], dtype=np.int64))])

    def _convolution(self, flow: _Flow, filters: int, *, kernel: int, stride: int, scaled: bool = False) -> _Flow:
        values, affine = next(self._layers), next(self._layers)
        weights = values[:-filters].reshape(filters, flow.channels, kernel, kernel).astype(np.float64)
        bias = values[-filters:].astype(np.float64)
        if scaled:
            weights = weights / _SCALE
            bias = bias - (weights.sum(axis=(2, 3)) @ _MEAN_RGB)
        gamma, beta = affine[:filters].astype(np.float64), affine[filters:].astype(np.float64)
        parts = [weights * gamma[:, None, None, None], bias * gamma + beta]
        border = kernel // 2 if stride == 1 else 0
        name = self._add(
            "Conv",
            [flow.name, *(self._constant(part.astype(np.float32)) for part in parts)],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[border] * 4,
        )
        return _Flow(name, filters, (flow.side + 2 * border - kernel) // stride + 1)

    def _relu(self, flow: _Flow) -> _Flow:
        return flow._replace(name=self._add("Relu", [flow.name]))

    def _add(self, operation: str, inputs: list[str], output: str | None = None, **attributes: object) -> str:
        from onnx import helper

        name = output or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        return name

    def _constant(self, values: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name
