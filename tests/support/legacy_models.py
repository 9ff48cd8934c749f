"""A pair of legacy models that the tests make, photographs for them, and the published pair if it is present.

The published detector and the photographs of real people are not part of this repository. The made detector is an MXNet
network with the outputs of RetinaFace. So the converter, the anchors, both preprocessings and the legacy programs run
in a plain clone. Only the numbers of real weights need the shared test data.

A made face is a board of 4x4 colors around a soft green spot. The detector finds spots of two sizes: a board of 336
pixels, and the same board at a quarter of the width, because the legacy recognizer enrolled from such images.
"""

import io
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PillowImage

from service.encoder.contract import Image
from service.models.mxnet.conversion import convert_folder
from tests.models.mxnet.making import Making
from tests.support.data import data_path
from tests.support.packs import save_recognizer

DETECTOR = "retinaface_mnet025_v1"
RECOGNIZER = "mobilefacenet.onnx"
MADE_PEOPLE = ("Ada", "Grace", "Mary", "Zoe")
"""The last one is never enrolled."""

_CELL_PIXELS = 32
_BOARD_PIXELS = 336
_SPOT_PIXELS = 36.0  # standard deviation
_SPOT_IN_CROP = np.array([56.0, 72.0])  # of 112 pixels: the nose of the template
_TEMPLATE = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 72.0], [41.5, 92.4], [70.7, 92.2]])
_FIELDS = 4
_CHECK_PIXELS = 6  # a crop of the whole image shows the checks, a crop of the image at a quarter of its width does not
_LARGEST_CONTRAST = 60
_BOARDS = {32: 336.0, 16: 168.0, 8: 84.0}
"""Side of the board that the detector reports at each stride, in pixels."""
_ANCHORS = {32: 512.0, 16: 128.0, 8: 32.0}
"""Side of the first anchor at each stride, as in service/encoder/networks/retinaface.py."""
_FIRST_CENTER = 7.5


@dataclass(frozen=True)
class LegacyPair:
    """Legacy models, converted and not, and photographs in which they find faces."""

    folder: Path
    """The converted detector, and the recognition model as an ONNX file."""
    mxnet: Path
    """The folder of the detector in MXNet's format."""
    photographs: Mapping[str, list[bytes]]
    """Image files of each person. Tests enroll the first one."""
    strangers: tuple[str, ...]
    group: bytes
    """Two people, from left to right."""
    people_of_group: tuple[str, str]
    partial: bytes
    """A face that reaches beyond the image."""

    @property
    def enrolled(self) -> dict[str, list[bytes]]:
        """Photographs of everyone but the strangers."""
        return {name: images for name, images in self.photographs.items() if name not in self.strangers}


def save_mxnet_detector(folder: Path) -> Path:
    """Write an MXNet network with the nine outputs of RetinaFace into `folder`, and return the folder."""
    made = Making()
    green = _fixed_convolution(made, "green", made.data, np.array([[-0.5, 1.0, -0.5]]) / 255, np.zeros(1))
    outputs = [output for stride in _ANCHORS for output in _level(made, green, stride)]
    return made.save(folder, outputs)


def _level(made: Making, green: int, stride: int) -> list[int]:
    """The three outputs of one stride. Only the first of the two anchors of a cell ever reports a face."""
    # The mean green of a cell finds the large spot at stride 32. At stride 8 it would find every part of the large
    # spot, so the mean of the surroundings is subtracted.
    surroundings = 5 * stride
    window = {"kernel": (surroundings, surroundings), "pad": (2 * stride, 2 * stride)}
    cell = made.op(
        "Pooling", f"cell{stride}", [green], kernel=(stride, stride), stride=(stride, stride), pool_type="avg"
    )
    around = made.op("Pooling", f"around{stride}", [green], stride=(stride, stride), pool_type="avg", **window)
    features = made.op("Concat", f"features{stride}", [cell, around], dim=1, num_args=2)
    weights, bias = {32: ((30.0, 0.0), -18.0), 16: ((0.0, 0.0), -100.0), 8: ((30.0, -30.0), -10.5)}[stride]
    # channels: no face of both anchors, then a face of both anchors
    score_weights = np.array([[0.0, 0.0], [0.0, 0.0], weights, [0.0, 0.0]])
    score_name = "face_rpn_cls_score_stride"
    score = _fixed_convolution(made, f"{score_name}{stride}", features, score_weights, np.array([0, 0, bias, -100.0]))
    score = made.op("Reshape", f"face_rpn_cls_score_reshape_stride{stride}", [score], shape=(0, 2, -1, 0))
    score = made.op("SoftmaxActivation", f"face_rpn_cls_prob_stride{stride}", [score], mode="channel")
    score = made.op("Reshape", f"face_rpn_cls_prob_reshape_stride{stride}", [score], shape=(0, 4, -1, 0))
    box, landmarks = _geometry(stride)
    return [
        score,
        _fixed_convolution(made, f"face_rpn_bbox_pred_stride{stride}", features, np.zeros((8, 2)), np.tile(box, 2)),
        _fixed_convolution(
            made, f"face_rpn_landmark_pred_stride{stride}", features, np.zeros((20, 2)), np.tile(landmarks, 2)
        ),
    ]


def _geometry(stride: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The four numbers of a box and the ten of its landmarks, relative to the first anchor of the cell of the spot."""
    side, scale = _ANCHORS[stride], _BOARDS[stride] / 112
    to_spot = (stride - 1) / 2 - _FIRST_CENTER
    middle = (to_spot + (56 - _SPOT_IN_CROP) * scale) / side
    size = np.log((_BOARDS[stride] + 1) / side)
    landmarks = (to_spot + (_TEMPLATE - _SPOT_IN_CROP) * scale) / side
    return np.array([*middle, size, size]), landmarks.reshape(-1)


def _fixed_convolution(
    made: Making, name: str, data: int, weights: npt.NDArray[np.floating], bias: npt.NDArray[np.floating]
) -> int:
    """A convolution of 1x1 with these weights, shape (channels after, channels before)."""
    after, before = weights.shape
    node = made.convolution(name, data, (before, after), 1, bias=True)
    made.parameters[f"{name}_weight"] = weights[:, :, None, None].astype(np.float32)
    made.parameters[f"{name}_bias"] = bias.astype(np.float32)
    return node


def draw_boards(people: Mapping[str, int], variation: int = 0, width: int | None = None) -> Image:
    """An image with the board of each person, whose left side is at the given multiple of 32 pixels.

    A variation shows the same people in other colors.
    """
    size = (width or (max(people.values()) + 11) * _CELL_PIXELS, 12 * _CELL_PIXELS)
    image = np.random.default_rng(1).integers(110, 146, (size[1], size[0], 3)).astype(np.float64)
    rows, columns = np.mgrid[: size[1], : size[0]]
    for name, left in people.items():
        # The detector reports the center of a cell: there is the spot, and the board lies around it.
        x, y = (left + 5.5) * _CELL_PIXELS - 0.5, 7.5 * _CELL_PIXELS - 0.5
        corner = left * _CELL_PIXELS + 8, 7 * _CELL_PIXELS - 200
        image[corner[1] : corner[1] + _BOARD_PIXELS, corner[0] : corner[0] + _BOARD_PIXELS] = _board(name, variation)
        spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * _SPOT_PIXELS**2))[:, :, None]
        image = image * (1 - spot) + np.array([0.0, 255.0, 0.0]) * spot
    return image.round().astype(np.uint8)


def _board(name: str, variation: int) -> npt.NDArray[np.float64]:
    """4x4 colors and the contrast of their checks, which belong to the name.

    Green is the mean of red and blue, so the detector ignores it.
    """
    random = np.random.default_rng(zlib.crc32(name.encode()))
    colors = random.integers(0, 256, (_FIELDS, _FIELDS, 3)).astype(np.float64)
    colors += np.random.default_rng(variation).integers(-20, 21, colors.shape) if variation else 0
    contrast = random.integers(0, _LARGEST_CONTRAST, (_FIELDS, _FIELDS, 1))
    colors = colors.clip(contrast, 255 - contrast)
    colors[:, :, 1] = (colors[:, :, 0] + colors[:, :, 2]) / 2
    field = _BOARD_PIXELS // _FIELDS
    row, column = np.mgrid[:_BOARD_PIXELS, :_BOARD_PIXELS] // _CHECK_PIXELS
    checks = np.where((row + column) % 2, 1.0, -1.0)[:, :, None]
    wide_colors, wide_contrast = (each.repeat(field, axis=0).repeat(field, axis=1) for each in (colors, contrast))
    return np.asarray(wide_colors + checks * wide_contrast)


def jpeg_of(image: Image) -> bytes:
    """The image as a JPEG whose colors are as sharp as its brightness."""
    file = io.BytesIO()
    PillowImage.fromarray(image).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def _made_pair(folder: Path) -> LegacyPair:
    mxnet = save_mxnet_detector(folder / "mxnet" / DETECTOR)
    convert_folder(mxnet, folder / "pair")
    save_recognizer(folder / "pair" / RECOGNIZER)
    photographs = {name: [jpeg_of(draw_boards({name: 0}, number)) for number in range(3)] for name in MADE_PEOPLE}
    first, second = MADE_PEOPLE[:2]
    group = draw_boards({first: 0, second: 11}, variation=3)
    partial = draw_boards({first: 0})[:, _CELL_PIXELS:]
    return LegacyPair(
        folder / "pair", mxnet, photographs, MADE_PEOPLE[-1:], jpeg_of(group), (first, second), jpeg_of(partial)
    )


def _published_pair(folder: Path) -> LegacyPair:
    """The published mnet025, converted, beside the MobileFaceNet of an InsightFace pack, with real photographs."""
    mxnet = data_path("legacy-models", "retinaface_mnet025")
    recognizer = data_path("models", "scrfd2.5g-mobilefacenet128", RECOGNIZER)
    people, group = data_path("faces", "people"), data_path("faces", "groups", "two_people.jpg")
    partial = data_path("faces", "hard", "obama_partial_face.jpg")
    convert_folder(mxnet, folder / "pair")
    shutil.copy(recognizer, folder / "pair")
    photographs = {
        path.name: [file.read_bytes() for file in sorted(path.iterdir())] for path in sorted(people.iterdir())
    }
    return LegacyPair(
        folder / "pair",
        mxnet,
        photographs,
        ("kit_harington", "lin_manuel_miranda"),
        group.read_bytes(),
        ("barack_obama", "joe_biden"),
        partial.read_bytes(),
    )


@pytest.fixture(scope="session")
def made_legacy_pair(tmp_path_factory: pytest.TempPathFactory) -> LegacyPair:
    """The made pair. Tests do not change its folders."""
    return _made_pair(tmp_path_factory.mktemp("made-pair"))


@pytest.fixture(scope="session")
def published_legacy_pair(tmp_path_factory: pytest.TempPathFactory) -> LegacyPair:
    """The published pair. Tests do not change its folders."""
    return _published_pair(tmp_path_factory.mktemp("published-pair"))


@pytest.fixture(params=["made", "published"])
def legacy_pair(request: pytest.FixtureRequest) -> LegacyPair:
    """The made pair, and the published one if the shared test data are present."""
    pair: LegacyPair = request.getfixturevalue(f"{request.param}_legacy_pair")
    return pair
