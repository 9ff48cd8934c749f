"""Operators without weights, each as ONNX nodes that compute the same at inference.

The defaults are those of MXNet 1.9. An attribute that would change the result is refused; the error names it and the
node.
"""

import math
from collections.abc import Callable

from service.models.mxnet.call import Call
from service.models.mxnet.onnx_graph import Tensor

_LEAKY_SLOPE = 0.25
_INFERRED = -1


Operator = Callable[[Call], Tensor]


def activation(call: Call) -> Tensor:
    """Activation: a function of each element."""
    call.expect(1)
    kinds = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}
    kind = call.attributes.text("act_type", "", tuple(kinds))
    return call.add(kinds[kind], [call.data.name], call.data.shape)


def leaky_relu(call: Call) -> Tensor:
    """LeakyReLU: one slope for all negative numbers, or (prelu) a learned slope per channel."""
    kind = call.attributes.text("act_type", "leaky", ("leaky", "prelu", "elu"))
    slope = call.attributes.real("slope", _LEAKY_SLOPE)
    call.attributes.ignore("lower_bound", "upper_bound")  # attributes of rrelu
    if kind == "prelu":
        return _prelu(call)
    call.expect(1)
    return call.add("Elu" if kind == "elu" else "LeakyRelu", [call.data.name], call.data.shape, alpha=slope)


def _prelu(call: Call) -> Tensor:
    call.expect(2)
    gamma, rank, channels = call.parameter(1), call.data.rank, call.channels
    size = math.prod(call.parameters.shape(gamma))
    if size not in (1, channels or size):
        raise call.attributes.refusal(f"{gamma} has {size} numbers, but there are {channels} channels")
    shape = (size,) + (1,) * (rank - 2)  # ONNX aligns shapes at the right
    slopes = call.graph.floats(f"{call.name}.slopes", shape, lambda: call.parameters.read(gamma).reshape(shape))
    return call.add("PRelu", [call.data.name, slopes], call.data.shape)


def elementwise(op: str) -> Operator:
    """Two inputs, element by element."""

    def write(call: Call) -> Tensor:
        call.expect(2)
        first, second = call.tensor(0), call.tensor(1)
        if first.rank != second.rank:
            raise call.attributes.refusal(f"its inputs have {first.rank} and {second.rank} dimensions")
        return call.add(op, [first.name, second.name], first.shape)

    return write


def with_scalar(op: str) -> Operator:
    """The input and one number, which is an attribute."""

    def write(call: Call) -> Tensor:
        call.expect(1)
        number = call.graph.scalar(f"{call.name}.scalar", call.attributes.real("scalar"))
        call.attributes.ignore("is_int")
        return call.add(op, [call.data.name, number], call.data.shape)

    return write


def same(call: Call) -> Tensor:
    """_copy and similar operators: no node at all."""
    call.expect(1)
    return call.data


def dropout(call: Call) -> Tensor:
    """Dropout: does nothing at inference."""
    call.expect(1)
    call.attributes.text("mode", "training", ("training",))
    call.attributes.ignore("p", "axes", "cudnn_off")
    return call.data


def flatten(call: Call) -> Tensor:
    """Flatten: all dimensions but the batch become one."""
    call.expect(1)
    return call.add("Flatten", [call.data.name], (call.data.shape[0], None), axis=1)


def pooling(call: Call) -> Tensor:
    """Pooling over windows or over the whole map."""
    call.expect(1, rank=4)
    attributes, channels = call.attributes, call.data.shape[1]
    attributes.ignore("cudnn_off", "p_value")
    attributes.text("layout", "NCHW", ("NCHW",))
    kind = attributes.text("pool_type", "max", ("max", "avg"))
    counts_padding = attributes.flag("count_include_pad", True)
    whole_window = attributes.text("pooling_convention", "valid", ("valid", "full"))
    if attributes.flag("global_pool", False):
        attributes.ignore("kernel", "stride", "pad")
        op = "GlobalMaxPool" if kind == "max" else "GlobalAveragePool"
        return call.add(op, [call.data.name], (call.data.shape[0], channels, 1, 1))
    window = {
        "kernel_shape": attributes.pair("kernel"),
        "strides": attributes.pair("stride", (1, 1)),
        "pads": attributes.pair("pad", (0, 0)) * 2,
        "ceil_mode": int(whole_window == "full"),
    }
    shape = (call.data.shape[0], channels, None, None)
    if kind == "max":
        return call.add("MaxPool", [call.data.name], shape, **window)
    if whole_window == "full":
        raise attributes.refusal("pool_type=avg with pooling_convention=full is not supported")
    return call.add("AveragePool", [call.data.name], shape, count_include_pad=int(counts_padding), **window)


def concat(call: Call) -> Tensor:
    """Concat along one dimension."""
    axis = call.attributes.integer("dim", 1)
    call.attributes.ignore("num_args")
    parts, shape = [call.tensor(place) for place in range(len(call.inputs))], list(call.data.shape)
    if not 0 <= axis < len(shape) or any(part.rank != len(shape) for part in parts):
        raise call.attributes.refusal(f"dim={axis} is outside its inputs")
    sizes = [part.shape[axis] for part in parts]
    shape[axis] = sum(size or 0 for size in sizes) if None not in sizes else None
    return call.add("Concat", [part.name for part in parts], tuple(shape), axis=axis)


def up_sampling(call: Call) -> Tensor:
    """UpSampling: every element becomes scale x scale elements."""
    call.expect(1, rank=4)
    call.attributes.text("sample_type", "", ("nearest",))
    call.attributes.ignore("workspace", "num_args", "multi_input_mode", "num_filter")
    scale = float(call.attributes.integer("scale"))
    scales = call.graph.reals(f"{call.name}.scales", [1.0, 1.0, scale, scale])
    return call.add(
        "Resize",
        [call.data.name, "", scales],
        (*call.data.shape[:2], None, None),
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


def crop(call: Call) -> Tensor:
    """Crop: the part of the first map with the height and width of the second."""
    call.expect(2, rank=4)
    attributes, name = call.attributes, call.name
    attributes.ignore("num_args")
    if attributes.flag("center_crop", False) or any(attributes.pair("h_w", (0, 0))):
        raise attributes.refusal("center_crop and h_w are not supported")
    like, offset = call.tensor(1), list(attributes.pair("offset", (0, 0)))
    start = call.graph.integers(f"{name}.start", offset)
    axes = call.graph.integers(f"{name}.axes", [2, 3])
    end = call.graph.add("Shape", [like.name], f"{name}.size", (2,), start=2, end=4).name
    if any(offset):
        end = call.graph.add("Add", [end, start], f"{name}.end", (2,)).name
    return call.add("Slice", [call.data.name, start, end, axes], (*call.data.shape[:2], *like.shape[2:]))


def reshape(call: Call) -> Tensor:
    """Reshape with sizes, 0 (unchanged) and -1 (the rest)."""
    call.expect(1)
    sizes = call.attributes.integers("shape")
    if call.attributes.flag("reverse", False):
        raise call.attributes.refusal("reverse is not supported")
    # older name of `shape`, before 0.12; files still carry (0,0)
    call.attributes.ignore("target_shape", "keep_highest")
    before = call.data.shape
    if (
        not sizes
        or min(sizes) < _INFERRED
        or any(size == 0 and place >= len(before) for place, size in enumerate(sizes))
    ):
        raise call.attributes.refusal(f"shape={sizes} is not supported")
    after = tuple(before[place] if size == 0 else _known(size) for place, size in enumerate(sizes))
    return call.add("Reshape", [call.data.name, call.graph.integers(f"{call.name}.shape", list(sizes))], after)


def softmax_activation(call: Call) -> Tensor:
    """SoftmaxActivation over the channels, or over all dimensions but the batch."""
    call.expect(1)
    mode = call.attributes.text("mode", "instance", ("instance", "channel"))
    if mode == "instance" and call.data.rank != 2:
        raise call.attributes.refusal(f"mode=instance of {call.data.rank} dimensions is not supported")
    return call.add("Softmax", [call.data.name], call.data.shape, axis=1)


def _known(size: int) -> int | None:
    return None if size == _INFERRED else size


OPERATORS: dict[str, Operator] = {
    "Activation": activation,
    "LeakyReLU": leaky_relu,
    "Pooling": pooling,
    "Flatten": flatten,
    "flatten": flatten,
    "Dropout": dropout,
    "Concat": concat,
    "concat": concat,
    "UpSampling": up_sampling,
    "Crop": crop,
    "Reshape": reshape,
    "reshape": reshape,
    "SoftmaxActivation": softmax_activation,
    "_copy": same,
    "identity": same,
    "BlockGrad": same,
    "elemwise_add": elementwise("Add"),
    "_plus": elementwise("Add"),
    "_Plus": elementwise("Add"),
    "broadcast_add": elementwise("Add"),
    "elemwise_mul": elementwise("Mul"),
    "_mul": elementwise("Mul"),
    "_Mul": elementwise("Mul"),
    "broadcast_mul": elementwise("Mul"),
    "_plus_scalar": with_scalar("Add"),
    "_PlusScalar": with_scalar("Add"),
    "_minus_scalar": with_scalar("Sub"),
    "_MinusScalar": with_scalar("Sub"),
    "_mul_scalar": with_scalar("Mul"),
    "_MulScalar": with_scalar("Mul"),
    "_div_scalar": with_scalar("Div"),
    "_DivScalar": with_scalar("Div"),
}
