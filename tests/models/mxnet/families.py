"""The families of networks that are converted, made from the block patterns of their published symbols."""

from collections.abc import Sequence
from typing import Any

from tests.models.mxnet.making import Making

UNITS = {"r34": (3, 4, 6, 3), "r50": (3, 4, 14, 3), "r100": (3, 13, 30, 3)}
_FILTERS = (64, 64, 128, 256, 512)
_PIXELS_TO_ONE = 0.01
"""RetinaFace takes unscaled pixels: without this factor its made-up probabilities would all be 0 or 1."""
_SOFTENED = 0.05
"""Scales the numbers before a softmax, which would otherwise return only 0 or 1."""


def arcface(
    units: Sequence[int], filters: Sequence[int] = _FILTERS, dimension: int = 512, crop: int = 112
) -> tuple[Making, list[int]]:
    """An improved residual network (IR), made like insightface's fresnet.py; r100 with the full filters has 250 MB."""
    made = Making()
    scaled = made.op("_minus_scalar", "_minusscalar0", [made.op("_copy", "id", [made.data])], scalar=127.5)
    scaled = made.op("_mul_scalar", "_mulscalar0", [scaled], scalar=0.0078125)
    body = made.convolution("conv0", scaled, (3, filters[0]), stride=(1, 1), pad=(1, 1), workspace=256)
    body = made.prelu("relu0", made.batch_norm("bn0", body, filters[0], momentum=0.9), filters[0])
    before, side = filters[0], crop
    for stage, (count, channels) in enumerate(zip(units, filters[1:], strict=True), 1):
        side = (side + 1) // 2
        for unit in range(1, count + 1):
            body = _residual_unit(made, f"stage{stage}_unit{unit}", body, (before, channels), halves=unit == 1)
            before = channels
    body = made.op("Dropout", "dropout0", [made.batch_norm("bn1", body, before)], p=0.4)
    body = made.fully_connected("pre_fc1", body, (before * side * side, dimension))
    return made, [made.batch_norm("fc1", body, dimension, fix_gamma=True)]


def _residual_unit(made: Making, name: str, data: int, sizes: tuple[int, int], *, halves: bool) -> int:
    before, after = sizes
    stride = (2, 2) if halves else (1, 1)
    body = made.batch_norm(f"{name}_bn1", data, before)
    body = made.convolution(f"{name}_conv1", body, (before, after), pad=(1, 1), stride=(1, 1))
    body = made.prelu(f"{name}_relu1", made.batch_norm(f"{name}_bn2", body, after), after)
    body = made.convolution(f"{name}_conv2", body, (after, after), pad=(1, 1), stride=stride)
    body = made.batch_norm(f"{name}_bn3", body, after)
    if halves:
        data = made.convolution(f"{name}_conv1sc", data, (before, after), 1, stride=stride)
        data = made.batch_norm(f"{name}_sc", data, after)
    return made.op("elemwise_add", f"_plus_{name}", [body, data])


def mobilefacenet(channels: int = 64, dimension: int = 128) -> tuple[Making, list[int]]:
    """The operators of MobileFaceNet: grouped convolutions, linear bottlenecks, a global depthwise convolution."""
    made = Making()
    body = made.op("_minus_scalar", "_minusscalar0", [made.data], scalar=127.5)
    body = made.op("_mul_scalar", "_mulscalar0", [body], scalar=0.0078125)
    body = _conv_block(made, "conv_1", body, (3, channels), stride=(2, 2), pad=(1, 1))
    body = _conv_block(made, "dw", body, (channels, channels), stride=(4, 4), pad=(1, 1), num_group=channels)
    linear = made.convolution("proj_conv2d", body, (channels, channels), 1)
    body = made.op("elemwise_add", "_plus0", [made.batch_norm("proj_batchnorm", linear, channels), body])
    body = made.convolution("conv_6dw7_7_conv2d", body, (channels, channels), 14, num_group=channels)
    body = made.batch_norm("conv_6dw7_7_batchnorm", body, channels)
    body = made.fully_connected("pre_fc1", body, (channels, dimension))
    return made, [made.batch_norm("fc1", body, dimension, fix_gamma=True)]


def genderage(channels: int = 8) -> tuple[Making, list[int]]:
    """Two numbers for the gender and two for each of a hundred years, from a pooled map."""
    made = Making()
    body = made.op("_minus_scalar", "_minusscalar0", [made.data], scalar=127.5)
    body = made.op("_mul_scalar", "_mulscalar0", [body], scalar=0.0078125)
    body = made.convolution("conv_1_conv2d", body, (3, channels), stride=(2, 2), pad=(1, 1))
    body = made.relu("conv_1_relu", made.batch_norm("conv_1_batchnorm", body, channels, fix_gamma=True))
    body = made.prelu("relu1", made.batch_norm("bn1", body, channels), channels)
    body = made.op("Pooling", "pool1", [body], global_pool=True, kernel=(7, 7), pool_type="avg")
    body = made.op("Flatten", "flatten0", [body])
    body = made.fully_connected("pre_fc1", body, (channels, 202))
    return made, [made.batch_norm("fc1", body, 202, fix_gamma=True)]


def retinaface_mnet(channels: int = 8) -> tuple[Making, list[int]]:
    """RetinaFace over a few depthwise layers: a small detector with the outputs of mnet025."""
    made = Making()
    body = _conv_block(made, "conv1", made.data, (3, channels), stride=(2, 2), pad=(1, 1))
    made.parameters["conv1_conv2d_weight"] *= _PIXELS_TO_ONE
    maps = []
    for number in range(4):
        name = f"dw{number}"
        body = _conv_block(made, name, body, (channels, channels), stride=(2, 2), pad=(1, 1), num_group=channels)
        maps.append(body)
    return made, _retinaface_heads(made, maps[1:], (channels,) * 3, channels)


def retinaface_r50(filters: Sequence[int] = (64, 256, 512, 1024, 2048), width: int = 256) -> tuple[Making, list[int]]:
    """RetinaFace over MXNet's ResNet-50 v2 (pre-activation bottlenecks)."""
    made = Making()
    body = made.batch_norm("bn_data", made.data, 3, fix_gamma=True, use_global_stats=True)
    body = made.convolution("conv0", body, (3, filters[0]), 7, stride=(2, 2), pad=(3, 3), workspace=256)
    made.parameters["conv0_weight"] *= _PIXELS_TO_ONE
    body = made.relu("relu0", made.batch_norm("bn0", body, filters[0], use_global_stats=True))
    body = made.op("Pooling", "pooling0", [body], kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
    before, maps = filters[0], []
    for stage, (count, channels) in enumerate(zip((3, 4, 6, 3), filters[1:], strict=True), 1):
        for unit in range(1, count + 1):
            stride = (2, 2) if unit == 1 and stage > 1 else (1, 1)
            body, first = _bottleneck(made, f"stage{stage}_unit{unit}", body, (before, channels), stride)
            before = channels
            if unit == 1 and stage > 1:
                maps.append((first, channels // 4))
    last = made.relu("relu1", made.batch_norm("bn1", body, before, use_global_stats=True))
    # The maps of strides 8 and 16 are the last of their size: the first activation of the next stage.
    features = [maps[1][0], maps[2][0], last]
    return made, _retinaface_heads(made, features, (filters[2], filters[3], filters[4]), width)


def _bottleneck(made: Making, name: str, data: int, sizes: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    """The unit's result and its first activation."""
    before, after = sizes
    inner = after // 4
    first = made.relu(f"{name}_relu1", made.batch_norm(f"{name}_bn1", data, before, use_global_stats=True))
    body = made.convolution(f"{name}_conv1", first, (before, inner), 1)
    body = made.relu(f"{name}_relu2", made.batch_norm(f"{name}_bn2", body, inner, use_global_stats=True))
    body = made.convolution(f"{name}_conv2", body, (inner, inner), stride=stride, pad=(1, 1))
    body = made.relu(f"{name}_relu3", made.batch_norm(f"{name}_bn3", body, inner, use_global_stats=True))
    body = made.convolution(f"{name}_conv3", body, (inner, after), 1)
    # sixteen units are added up: without this factor numbers grow to 10,000
    made.parameters[f"{name}_conv3_weight"] *= 0.2
    if name.endswith("_unit1"):
        data = made.convolution(f"{name}_sc", first, (before, after), 1, stride=stride)
    return made.op("elemwise_add", f"_plus_{name}", [body, data]), first


def _retinaface_heads(made: Making, maps: Sequence[int], sizes: tuple[int, int, int], width: int) -> list[int]:
    """The feature pyramid and the three heads; `maps` of strides 8, 16 and 32."""
    top = _lateral(made, "rf_c3_lateral", maps[2], (sizes[2], width))
    middle = _merged(made, "rf_c2", _lateral(made, "rf_c2_lateral", maps[1], (sizes[1], width)), top, width)
    bottom = _merged(made, "rf_c1", _lateral(made, "rf_c1_red_conv", maps[0], (sizes[0], width)), middle, width)
    outputs = []
    for name, level, stride in (("rf_c3_det", top, 32), ("rf_c2_det", middle, 16), ("rf_c1_det", bottom, 8)):
        outputs += _head(made, name, level, width, stride)
    return outputs


def _lateral(made: Making, name: str, data: int, sizes: tuple[int, int]) -> int:
    body = made.convolution(name, data, sizes, 1, bias=True, pad=(0, 0), stride=(1, 1))
    return made.relu(f"{name}_relu", made.batch_norm(f"{name}_bn", body, sizes[1]))


def _merged(made: Making, name: str, fine: int, coarse: int, width: int) -> int:
    """The coarser map enlarged, cut to the size of the finer map and added to it."""
    larger = made.op(
        "UpSampling", f"{name}_upsampling", [coarse], num_args=1, sample_type="nearest", scale=2, workspace=512
    )
    cut = made.op("Crop", f"{name}_crop", [larger, fine], num_args=2)
    body = made.op("elemwise_add", f"{name}_plus", [fine, cut])
    body = made.convolution(f"{name}_aggr", body, (width, width), bias=True, pad=(1, 1), stride=(1, 1))
    return made.relu(f"{name}_aggr_relu", made.batch_norm(f"{name}_aggr_bn", body, width))


def _head(made: Making, name: str, data: int, width: int, stride: int) -> list[int]:
    half, quarter = width // 2, width // 4
    first = _context(made, f"{name}_conv1", data, (width, half))
    narrow = made.relu(f"{name}_context_conv1_relu", _context(made, f"{name}_context_conv1", data, (width, quarter)))
    second = _context(made, f"{name}_context_conv2", narrow, (quarter, quarter))
    third = made.relu(
        f"{name}_context_conv3_1_relu", _context(made, f"{name}_context_conv3_1", narrow, (quarter, quarter))
    )
    third = _context(made, f"{name}_context_conv3_2", third, (quarter, quarter))
    body = made.relu(
        f"{name}_concat_relu", made.op("Concat", f"{name}_concat", [first, second, third], dim=1, num_args=3)
    )
    score = made.convolution(f"face_rpn_cls_score_stride{stride}", body, (width, 4), 1, bias=True)
    made.parameters[f"face_rpn_cls_score_stride{stride}_weight"] *= _SOFTENED
    score = made.op("Reshape", f"face_rpn_cls_score_reshape_stride{stride}", [score], shape=(0, 2, -1, 0))
    score = made.op("SoftmaxActivation", f"face_rpn_cls_prob_stride{stride}", [score], mode="channel")
    score = made.op("Reshape", f"face_rpn_cls_prob_reshape_stride{stride}", [score], shape=(0, 4, -1, 0))
    box = made.convolution(f"face_rpn_bbox_pred_stride{stride}", body, (width, 8), 1, bias=True)
    points = made.convolution(f"face_rpn_landmark_pred_stride{stride}", body, (width, 20), 1, bias=True)
    return [score, box, points]


def _context(made: Making, name: str, data: int, sizes: tuple[int, int]) -> int:
    body = made.convolution(name, data, sizes, bias=True, pad=(1, 1), stride=(1, 1))
    return made.batch_norm(f"{name}_bn", body, sizes[1])


def _conv_block(made: Making, name: str, data: int, sizes: tuple[int, int], **attributes: Any) -> int:
    body = made.convolution(f"{name}_conv2d", data, sizes, **attributes)
    return made.prelu(f"{name}_relu", made.batch_norm(f"{name}_batchnorm", body, sizes[1]), sizes[1])
