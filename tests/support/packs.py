"""An InsightFace pack that the tests make: a detector and a recognition model whose results are known, and images for
them.

The published weights are not part of this repository. These two networks have the inputs and outputs of the published
ones, so loading, scaling, decoding, alignment and batching run in a plain clone. Only the numbers of real weights need
the shared test data.

A face is a soft green spot on a board of 4x4 colors. The detector returns a box of fixed size around the spot; the
recognition model returns colors of the aligned board, so the same board gives the same embedding.
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as PillowImage

from service.encoder.contract import Image

DETECTOR, RECOGNIZER = "detector.onnx", "recognizer.onnx"
DIMENSION = 128

_SIDE = 640  # the detector's larger input: an image of this size is not scaled
_SPOT_PIXELS = 9.0  # standard deviation; at the detector's smaller input the spot is too faint to be found twice
_BOARD_PIXELS = 84  # side of the aligned crop in the image, 112 pixels at the scale of the template
_STRIDES = (8, 16, 32)
_TEMPLATE = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])
_MEAN_TEXTURE = 0.06
_SPOT_IN_CROP = np.array([56.0, 71.7])
_LANDMARKS = (_TEMPLATE - _SPOT_IN_CROP) * (_BOARD_PIXELS / 112) / _STRIDES[0]
_TO_CENTER = 3.5 / 8  # from the corner of a cell, where SCRFD places its anchors, to the center
_BOX = np.array([[5.0, 6.0, 5.0, 4.0]])  # from the spot to the left, top, right and bottom, in strides


def save_pack(folder: Path, board_pixels: int = _BOARD_PIXELS) -> Path:
    """Write both networks as loose files into `folder`, as InsightFace publishes packs."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(detector(board_pixels), folder / DETECTOR)
    save_recognizer(folder / RECOGNIZER)
    return folder


def detector(board_pixels: int = _BOARD_PIXELS) -> Any:
    """A network with the input and the nine outputs of SCRFD. It finds green spots at stride 8.

    It reports faces of that board in an input of 640 pixels. A smaller board has a smaller spot, which a steeper
    network finds at the centers of cells only.
    """
    scale = board_pixels / _BOARD_PIXELS
    nodes = [helper.make_node("Conv", ["input.1", "greenness"], ["green"])]
    outputs: list[list[Any]] = [[], [], []]
    for stride in _STRIDES:
        nodes += _level(stride)
        for column, (name, width) in zip(outputs, (("score", 1), ("box", 4), ("points", 10)), strict=True):
            column.append(helper.make_tensor_value_info(f"{name}{stride}", TensorProto.FLOAT, ["anchors", width]))
    constants = {
        "greenness": np.array([-0.5, 1.0, -0.5]).reshape(1, 3, 1, 1),
        "steepness": np.array(4.0 if scale == 1 else 10.0),
        "none": np.array(0.0),
        "one": np.array(1.0),
        "box": _BOX * scale + _TO_CENTER * np.array([-1.0, -1.0, 1.0, 1.0]),
        "landmarks": (_LANDMARKS * scale + _TO_CENTER).reshape(1, 10),
        **{f"bias{stride}": np.array(-4.0 if stride == _STRIDES[0] else -100.0) for stride in _STRIDES},
    }
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    initializers.append(numpy_helper.from_array(np.array([-1, 1], dtype=np.int64), "column"))
    image = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, "height", "width"])
    return _model(nodes, [image], [value for column in outputs for value in column], initializers)


def _level(stride: int) -> list[Any]:
    """Nodes of one stride: two equal anchors a cell, with the score of the cell's mean green."""

    def named(name: str) -> str:
        return f"{name}{stride}"

    return [
        helper.make_node("AveragePool", ["green"], [named("mean")], kernel_shape=[stride] * 2, strides=[stride] * 2),
        helper.make_node("Reshape", [named("mean"), "column"], [named("cells")]),
        helper.make_node("Concat", [named("cells"), named("cells")], [named("twice")], axis=1),
        helper.make_node("Reshape", [named("twice"), "column"], [named("anchors")]),
        helper.make_node("Mul", [named("anchors"), "steepness"], [named("steep")]),
        helper.make_node("Add", [named("steep"), named("bias")], [named("logit")]),
        helper.make_node("Sigmoid", [named("logit")], [named("score")]),
        helper.make_node("Mul", [named("anchors"), "none"], [named("zeros")]),
        helper.make_node("Add", [named("zeros"), "one"], [named("ones")]),
        helper.make_node("MatMul", [named("ones"), "box"], [named("box")]),
        helper.make_node("MatMul", [named("ones"), "landmarks"], [named("points")]),
    ]


def save_recognizer(path: Path) -> None:
    """Write the recognition model alone."""
    onnx.save(recognizer(), path)


def recognizer(dimension: int = DIMENSION) -> Any:
    """A network for one crop of 112x112, as most are exported: mean colors and textures of 4x4 fields, times a matrix.

    The texture of a field is the mean distance of its pixels from their neighbors. It tells a sharp crop from a crop
    that was scaled down before.
    """
    weights = np.random.default_rng(7).standard_normal((96, dimension)) / 7
    weights[48:] *= 3  # textures are smaller numbers than colors
    bias = -_gray_face() @ weights  # without it the spot and the texture would make all faces similar
    field = {"kernel_shape": [28, 28], "strides": [28, 28]}
    nodes = [
        helper.make_node("AveragePool", ["data"], ["colors"], **field),
        helper.make_node("AveragePool", ["data"], ["soft"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]),
        helper.make_node("Sub", ["data", "soft"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("AveragePool", ["distance"], ["textures"], **field),
        helper.make_node("Concat", ["colors", "textures"], ["both"], axis=1),
        helper.make_node("Reshape", ["both", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["projected"]),
        helper.make_node("Add", ["projected", "bias"], ["embedding"]),
    ]
    return _model(
        nodes,
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, dimension])],
        [
            numpy_helper.from_array(np.array([1, 96], dtype=np.int64), "flat"),
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
    )


def _gray_face() -> npt.NDArray[np.float64]:
    """The 96 colors and textures of a gray board with its spot."""
    rows, columns = np.mgrid[:112, :112]
    x, y = _SPOT_IN_CROP
    width = _SPOT_PIXELS * 112 / _BOARD_PIXELS
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2))
    green = spot.reshape(4, 28, 4, 28).mean(axis=(1, 3))
    return np.concatenate([-green, green, -green, np.full((3, 16), _MEAN_TEXTURE).reshape(12, 4)]).reshape(-1)


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], initializers: list[Any]) -> Any:
    graph = helper.make_graph(nodes, "made by the tests", inputs, outputs, initializers)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    onnx.checker.check_model(model)
    return model


def draw_spots(
    people: Mapping[str, tuple[int, int]], size: tuple[int, int] = (_SIDE, 480), variation: int = 0
) -> Image:
    """An image of `size` (width, height) with the board of each person around a green spot at (x, y).

    A variation shows the same people in slightly other colors.
    """
    image = np.random.default_rng(1).integers(110, 146, (size[1], size[0], 3)).astype(np.float64)
    for name, (x, y) in people.items():
        left, top = (np.array([x, y]) - _SPOT_IN_CROP * (_BOARD_PIXELS / 112)).round().astype(int)
        image[top : top + _BOARD_PIXELS, left : left + _BOARD_PIXELS] = _board(name, variation)
        rows, columns = np.mgrid[: size[1], : size[0]]
        spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * _SPOT_PIXELS**2))[:, :, None]
        image = image * (1 - spot) + np.array([0.0, 255.0, 0.0]) * spot
    return image.round().astype(np.uint8)


def two_people() -> Image:
    """Ada on the left, Grace on the right."""
    return draw_spots({"Ada": (160, 200), "Grace": (460, 260)})


def save_photographs(folder: Path, people: Sequence[str], count: int = 3) -> Path:
    """Write a folder for each person with `count` photographs of the person, and return `folder`."""
    for name in people:
        (folder / name).mkdir(parents=True)
        for variation in range(count):
            image = PillowImage.fromarray(draw_spots({name: (320, 240)}, variation=variation))
            image.save(folder / name / f"{variation + 1}.png")
    return folder


def _board(name: str, variation: int) -> npt.NDArray[np.float64]:
    """4x4 colors that belong to the name. Their green is the mean of red and blue, so the detector ignores them."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    colors = random.integers(0, 256, (4, 4, 3)).astype(np.float64)
    if variation:
        colors = (colors + np.random.default_rng(variation).integers(-20, 21, colors.shape)).clip(0, 255)
    colors[:, :, 1] = (colors[:, :, 0] + colors[:, :, 2]) / 2
    return colors.repeat(_BOARD_PIXELS // 4, axis=0).repeat(_BOARD_PIXELS // 4, axis=1)


@pytest.fixture(scope="session")
def made_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the made pack. Tests do not change it: they copy it first."""
    return save_pack(tmp_path_factory.mktemp("packs") / "made")
