"""Tiny networks, one for each variant of an operator; `data` has MXNet's own outputs of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.models.mxnet import families
from tests.models.mxnet.making import Header, Making, Spelling

RECORDED = Path(__file__).parent / "data" / "recorded.npz"
"""Arrays by `CASE/parameter/NAME` and `CASE/output/NUMBER`; written by `make parity PARITY=--record`."""

CHANNELS = 4
SMALL = 20
"""Pixels of a side up to which the input represents a layer inside a network."""


@dataclass(frozen=True)
class Case:
    """A network, the numbers of its output nodes, and the shape of its input."""

    made: Making
    outputs: list[int]
    shape: tuple[int, ...] = (2, 3, 9, 11)
    spelling: Spelling = "attrs"
    header: Header = "v2"

    @property
    def input(self) -> np.ndarray:
        """Pixels of 0..250 for images, numbers of -2..3 for layers inside a network; the same on every machine."""
        scattered = np.arange(np.prod(self.shape)) * 7919 % 251
        numbers = scattered if self.shape[-1] > SMALL else scattered / 50 - 2
        return numbers.reshape(self.shape).astype(np.float32)


def _activations() -> Case:
    made = Making()
    kinds = ("relu", "sigmoid", "tanh", "softrelu", "softsign")
    outputs = [made.op("Activation", kind, [made.data], act_type=kind) for kind in kinds]
    outputs.append(made.op("LeakyReLU", "leaky", [made.data], act_type="leaky", slope=0.1))
    outputs.append(made.op("LeakyReLU", "leaky_by_default", [made.data]))
    outputs.append(made.op("LeakyReLU", "elu", [made.data], act_type="elu", slope=0.3))
    outputs.append(made.prelu("prelu", made.data, 3))
    outputs.append(made.prelu("prelu_of_one", made.data, 1))
    outputs.append(made.prelu("prelu_of_vectors", made.fully_connected("fc", made.data, (297, 5)), 5))
    return Case(made, outputs)


def _convolutions() -> Case:
    made = Making()
    plain = made.convolution("plain", made.data, (3, CHANNELS), bias=True, pad=(1, 1), workspace=256)
    return Case(
        made,
        [
            made.convolution("oblong", made.data, (3, CHANNELS), stride=(2, 1), pad=(1, 2), bias=True),
            made.convolution("dilated", made.data, (3, CHANNELS), dilate=(2, 3), cudnn_tune="off"),
            made.convolution("grouped", plain, (CHANNELS, 6), num_group=2, layout="NCHW"),
            made.convolution("depthwise", plain, (CHANNELS, CHANNELS), num_group=CHANNELS, pad="(1L, 1L)"),
        ],
    )


def _batch_norms() -> Case:
    """Folded, and kept if folding would be wrong: before padding, and if another node reads the layer."""
    made = Making()
    folded = made.convolution("folded", made.data, (3, CHANNELS), pad=(1, 1), bias=True)
    shared = made.convolution("shared", made.data, (3, CHANNELS), pad=(1, 1))
    shared_norm = made.batch_norm("shared_bn", shared, CHANNELS)
    first = made.batch_norm("first_bn", made.data, 3, eps=0.5)
    vectors = made.fully_connected("vectors", made.data, (297, 6))
    lone = made.fully_connected("lone", made.data, (297, 6))
    return Case(
        made,
        [
            made.batch_norm("folded_bn", folded, CHANNELS, momentum=0.9, use_global_stats=True),
            made.op("elemwise_add", "both", [shared, shared_norm]),
            made.convolution("after_bn", first, (3, CHANNELS), pad=(1, 1)),
            made.batch_norm("vectors_bn", vectors, 6, fix_gamma=True),
            lone,
            made.batch_norm("lone_bn", lone, 6),
        ],
    )


def _defaults() -> Case:
    """A BatchNorm without attributes: gamma counts as 1, and epsilon is 0.001."""
    made = Making()
    body = made.convolution("conv", made.data, (3, CHANNELS), pad=(1, 1))
    outputs = [made.batch_norm("bn", body, CHANNELS), made.batch_norm("alone", made.data, 3)]
    for number in outputs:
        made.nodes[number]["attrs"] = {}
    return Case(made, outputs)


def _arithmetic() -> Case:
    made = Making()
    body = made.convolution("conv", made.data, (3, 3), pad=(1, 1))
    gate = made.op("Pooling", "gate", [body], global_pool=True, kernel=(1, 1), pool_type="avg")
    pairs = ("elemwise_add", "_Plus", "broadcast_add", "elemwise_mul", "_Mul")
    scalars = (
        "_plus_scalar",
        "_PlusScalar",
        "_minus_scalar",
        "_MinusScalar",
        "_mul_scalar",
        "_MulScalar",
        "_div_scalar",
    )
    outputs = [made.op(op, f"pair{op}", [body, made.data]) for op in pairs]
    outputs.append(made.op("broadcast_mul", "gated", [body, gate]))
    outputs += [made.op(op, f"scalar{op}", [made.data], scalar=2.5) for op in scalars]
    copied = made.op("_copy", "copy", [made.op("identity", "identity", [made.op("BlockGrad", "block", [body])])])
    outputs.append(made.op("Dropout", "dropout", [copied], p=0.4))
    outputs.append(made.op("Concat", "channels", [body, made.data], dim=1, num_args=2))
    outputs.append(made.op("Concat", "rows", [body, made.data, body], dim=2, num_args=3))
    return Case(made, outputs)


def _pooling() -> Case:
    made = Making()
    body = made.convolution("conv", made.data, (3, 3), pad=(1, 1))
    window = {"kernel": (3, 3), "stride": (2, 2)}
    kinds: dict[str, dict[str, object]] = {
        "max": {"pool_type": "max", "pad": (1, 1)},
        "max_full": {"pool_type": "max", "pooling_convention": "full"},
        "max_full_padded": {"pool_type": "max", "pooling_convention": "full", "pad": (1, 1)},
        "avg": {"pool_type": "avg", "pad": (1, 1)},
        "avg_inside": {"pool_type": "avg", "pad": (1, 1), "count_include_pad": False},
    }
    outputs = [made.op("Pooling", name, [body], **window, **kind) for name, kind in kinds.items()]
    outputs.append(made.op("Pooling", "dense", [body], kernel=(2, 3), pool_type="max"))
    outputs.append(made.op("Pooling", "whole_max", [body], global_pool=True, kernel=(7, 7), pool_type="max"))
    outputs.append(made.op("Pooling", "whole_avg", [body], global_pool=True, kernel=(7, 7), pool_type="avg"))
    return Case(made, outputs, shape=(2, 3, 10, 13))


def _shapes() -> Case:
    made = Making()
    body = made.convolution("conv", made.data, (3, 4), pad=(1, 1), stride=(2, 2))
    twice = made.op("UpSampling", "twice", [body], scale=2, sample_type="nearest", num_args=1, workspace=512)
    thrice = made.op("UpSampling", "thrice", [body], scale=3, sample_type="nearest", num_args=1)
    pairs = made.op("Reshape", "pairs", [body], shape=(0, 2, -1, 0))
    flat = made.op("Flatten", "flat", [body])
    return Case(
        made,
        [
            made.op("Crop", "crop", [twice, made.data], num_args=2),
            made.op("Crop", "moved", [thrice, made.data], num_args=2, offset="(2, 1)"),
            made.op(
                "Reshape", "back", [made.op("SoftmaxActivation", "soft", [pairs], mode="channel")], shape=(0, 4, -1, 0)
            ),
            made.op("SoftmaxActivation", "of_vectors", [flat]),
            made.op("Reshape", "fixed", [body], shape="(-1L, 60L)"),
        ],
    )


def _family(made: tuple[Making, list[int]], spelling: Spelling, header: Header, *sides: int) -> Case:
    return Case(*made, shape=(2, 3, *(sides or (112, 112))), spelling=spelling, header=header)


OPERATORS: dict[str, Callable[[], Case]] = {
    "activations": _activations,
    "convolutions": _convolutions,
    "batch_norms": _batch_norms,
    "defaults": _defaults,
    "arithmetic": _arithmetic,
    "pooling": _pooling,
    "shapes": _shapes,
}

FAMILIES: dict[str, Callable[[], Case]] = {
    "arcface": lambda: _family(families.arcface((1, 2, 1, 1), (4, 4, 6, 6, 8), 16), "attr", "v1"),
    "mobilefacenet": lambda: _family(families.mobilefacenet(8, 16), "attrs", "v2"),
    "genderage": lambda: _family(families.genderage(4), "param", "legacy"),
    "retinaface_mnet": lambda: _family(families.retinaface_mnet(8), "attrs", "v2", 75, 100),
    "retinaface_r50": lambda: _family(families.retinaface_r50((4, 8, 8, 8, 8), 8), "attr", "legacy", 75, 100),
}

CASES = OPERATORS | FAMILIES
