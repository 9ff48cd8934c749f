"""ArcFace-style recognition: aligned crops in, embeddings out, many at a time.

Networks exported for one crop at a time are rewritten to accept batches. ONNX's checker validates the rewritten model.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from service.embedding import Embedding
from service.encoder.contract import Image
from service.encoder.networks.session import Session
from service.errors import InvalidModel

_WIDE_THRESHOLD = 0.4
_NARROW_THRESHOLD = 0.45
_WIDE_DIMENSION = 512


def default_threshold(dimension: int) -> float:
    """Default threshold (cosine) for two aligned faces.

    Networks of fewer than 512 numbers spread strangers wider (docs/decisions/0005-encoders-and-thresholds.md).
    """
    return _WIDE_THRESHOLD if dimension >= _WIDE_DIMENSION else _NARROW_THRESHOLD


class ArcfaceRecognizer:
    """One recognition network. Several threads may call `embed` at a time."""

    def __init__(self, session: Session, mean: float, std: float) -> None:
        self._session = session
        self._mean, self._std = mean, std
        self._input = session.get_inputs()[0]
        self.side: int = self._input.shape[2]
        self._takes_batches = not isinstance(self._input.shape[0], int)
        self.dimension = self._run(np.zeros((1, self.side, self.side, 3), dtype=np.uint8)).shape[1]

    def embed(self, crops: Sequence[Image]) -> list[Embedding]:
        """One embedding per crop of shape (side, side, 3), RGB, in order."""
        if not self._takes_batches:
            return [self._run(crop[None])[0] for crop in crops]
        return list(self._run(np.stack(crops))) if crops else []

    def _run(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        blob = cv2.dnn.blobFromImages(list(crops), 1 / self._std, (self.side, self.side), (self._mean,) * 3)
        if self._input.type == "tensor(uint8)":
            blob = blob.astype(np.uint8)
        output: npt.NDArray[np.float32] = self._session.run(None, {self._input.name: blob})[0]
        if output.ndim != 2 or len(output) != len(crops):
            raise InvalidModel(f"the recognition network returns shape {output.shape} for {len(crops)} crops")
        return output.astype(np.float32, copy=False)


def batched_model(model: Any) -> bytes:
    """The ONNX model, changed to accept any number of crops, serialized.

    A fixed first dimension becomes a free one. A shape constant of Reshape that begins with 1 begins with 0 instead,
    which means "keep".
    """
    import onnx
    from onnx import numpy_helper

    graph = model.graph
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape" and len(node.input) > 1}
    constants = [
        attribute.t
        for node in graph.node
        if node.op_type == "Constant" and node.output[0] in shapes
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    for tensor in (*constants, *(tensor for tensor in graph.initializer if tensor.name in shapes)):
        shape = numpy_helper.to_array(tensor).copy()
        if shape.ndim == 1 and len(shape) > 1 and shape[0] == 1:
            shape[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized
