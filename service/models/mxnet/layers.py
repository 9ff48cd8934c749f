"""Layers with weights: Convolution and FullyConnected with a folded BatchNorm, and BatchNorm itself."""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from service.models.mxnet.batch_norm import BatchNorm, read_batch_norm
from service.models.mxnet.call import Call
from service.models.mxnet.onnx_graph import Tensor

Layer = Callable[[Call, Call | None], Tensor]
"""Writes a layer, with the BatchNorm that folds into it, if there is one."""


def convolution(call: Call, norm: Call | None) -> Tensor:
    """Convolution over an image, with groups."""
    attributes = call.attributes
    attributes.ignore("workspace", "cudnn_tune", "cudnn_off")
    attributes.text("layout", "NCHW", ("NCHW",))
    kernel, channels = attributes.pair("kernel"), attributes.integer("num_filter")
    groups, biased = attributes.integer("num_group", 1), not attributes.flag("no_bias", False)
    call.expect(2 + biased, rank=4)
    before = call.data.shape[1]
    if groups < 1 or channels % groups or (before or 0) % groups:
        raise attributes.refusal(f"num_group={groups} does not divide {before} and {channels} channels")
    call.expect_shape(call.parameter(1), (channels, None if before is None else before // groups, *kernel))
    return call.add(
        "Conv",
        [call.data.name, *_weights(call, channels, biased, norm)],
        (call.data.shape[0], channels, None, None),
        kernel_shape=kernel,
        strides=attributes.pair("stride", (1, 1)),
        pads=attributes.pair("pad", (0, 0)) * 2,
        dilations=attributes.pair("dilate", (1, 1)),
        group=groups,
    )


def fully_connected(call: Call, norm: Call | None) -> Tensor:
    """FullyConnected, after flattening all dimensions but the batch."""
    attributes, data = call.attributes, call.data
    channels, biased = attributes.integer("num_hidden"), not attributes.flag("no_bias", False)
    flattens = attributes.flag("flatten", True)
    call.expect(2 + biased)
    if not flattens and data.rank != 2:
        raise attributes.refusal(f"flatten=False of {data.rank} dimensions is not supported")
    call.expect_shape(call.parameter(1), (channels, None))
    if data.rank != 2:
        data = call.graph.add("Flatten", [data.name], f"{call.name}.flat", (data.shape[0], None), axis=1)
    weights = _weights(call, channels, biased, norm)
    return call.add("Gemm", [data.name, *weights], (data.shape[0], channels), transB=1)


def batch_norm(call: Call, _: Call | None) -> Tensor:
    """A BatchNorm that is not folded."""
    norm = read_batch_norm(call, call.channels)
    shape, read, graph = call.parameters.shape(norm.beta), call.parameters.read, call.graph
    gamma, ones = norm.gamma, np.ones(shape, dtype=np.float32)
    weights = [
        graph.floats(f"{call.name}.gamma", shape, lambda: ones if gamma is None else read(gamma)),
        *(graph.floats(name, shape, partial(read, name)) for name in (norm.beta, norm.mean, norm.variance)),
    ]
    return call.add("BatchNormalization", [call.data.name, *weights], call.data.shape, epsilon=norm.epsilon)


def _weights(call: Call, channels: int, biased: bool, norm_call: Call | None) -> list[str]:
    """Names of the weight and, if there is one, the bias."""
    norm = None if norm_call is None else read_batch_norm(norm_call, channels)
    weight, bias = call.parameter(1), call.parameter(2) if biased else None
    read, graph = call.parameters.read, call.graph
    shape = call.parameters.shape(weight)
    if bias is not None:
        call.expect_shape(bias, (channels,))
    if norm is not None:
        return [
            graph.floats(f"{call.name}.weight", shape, lambda: _scaled(read(weight), norm)),
            graph.floats(f"{call.name}.bias", (channels,), lambda: norm.shifted(read(bias) if bias else 0.0)),
        ]
    names = [graph.floats(weight, shape, lambda: read(weight))]
    return names if bias is None else [*names, graph.floats(bias, (channels,), lambda: read(bias))]


def _scaled(weight: npt.NDArray[np.float32], norm: BatchNorm) -> npt.NDArray[np.float32]:
    scale = norm.scale().reshape((-1,) + (1,) * (weight.ndim - 1)).astype(np.float32)
    return np.multiply(weight, scale, out=weight)  # in place: the largest weight has 51 MB


LAYERS: dict[str, Layer] = {"Convolution": convolution, "FullyConnected": fully_connected, "BatchNorm": batch_norm}
