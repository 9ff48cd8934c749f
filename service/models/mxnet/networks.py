"""Classifies networks of InsightFace's MXNet generation by their symbol: detector, recognition model or attributes."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import InvalidModel
from service.models.mxnet.attributes import NodeAttributes
from service.models.mxnet.manifest import Meaning, ModelTask, Output
from service.models.mxnet.symbol import Node, Source, Symbol

STRIDES = (32, 16, 8)
"""Strides of RetinaFace's three maps, in the order of its outputs."""

_CROP_PIXELS = 112  # InsightFace 0.1.5: FaceRecognition and FaceGenderage bind (1, 3, 112, 112)
_EMBEDDING_NODE = "fc1"  # the node at which InsightFace cuts the network; training heads follow behind it
_GENDERAGE_NUMBERS = 202  # two for the gender and two for each of 100 years
_MEANINGS: tuple[tuple[Meaning, str], ...] = (
    ("face_probability", "cls_prob"),
    ("box", "bbox_pred"),
    ("landmarks", "landmark_pred"),
)
_CHANNELS: dict[Meaning, int] = {"face_probability": 2 * 2, "box": 2 * 4, "landmarks": 2 * 10}


@dataclass(frozen=True)
class Network:
    """A network's task, the node at which it is cut, its outputs and its input size (height, width), None for any."""

    task: ModelTask
    sources: tuple[Source, ...]
    outputs: tuple[Output, ...]
    size: tuple[int, int] | None
    numbers: int | None
    """Numbers of the only output, None for a detector."""


def classify_network(symbol: Symbol) -> Network:
    """The network's task and outputs. Raises InvalidModel if it belongs to none of the families."""
    names = [symbol.nodes[source.node].name for source in symbol.outputs]
    if any("cls_prob" in name for name in names):
        return _detector(symbol, names)
    for number, node in enumerate(symbol.nodes):
        if node.name == _EMBEDDING_NODE and not node.is_variable:
            return _of_crops(symbol, Source(number, 0))
    raise InvalidModel(
        f"{symbol.file_name} is an unknown network: it has neither RetinaFace's outputs (cls_prob, bbox_pred, "
        f"landmark_pred) nor a node {_EMBEDDING_NODE}; its outputs are {', '.join(names)}"
    )


def check_outputs(network: Network, channels: Sequence[int | None]) -> None:
    """Raises InvalidModel if a detector's maps do not have two anchors per cell, which the decoder requires."""
    for output, found in zip(network.outputs, channels, strict=True):
        expected = _CHANNELS.get(output.meaning, found)
        if found != expected:
            raise InvalidModel(f"the output {output.name} has {found} channels, but {expected} are supported")


def _detector(symbol: Symbol, names: list[str]) -> Network:
    expected = [(meaning, part, stride) for stride in STRIDES for meaning, part in _MEANINGS]
    fits = len(names) == len(expected) and all(
        part in name and name.endswith(f"stride{stride}")
        for name, (_, part, stride) in zip(names, expected, strict=True)
    )
    if not fits:
        raise InvalidModel(
            f"{symbol.file_name}: a RetinaFace detector has {len(expected)} outputs, for each of the strides {STRIDES} "
            f"{', '.join(part for _, part in _MEANINGS)}; here they are {', '.join(names)}"
        )
    outputs = [Output(name, meaning, stride) for name, (meaning, _, stride) in zip(names, expected, strict=True)]
    return Network("detection", symbol.outputs, tuple(outputs), None, None)


def _of_crops(symbol: Symbol, source: Source) -> Network:
    numbers = _numbers(symbol, source)
    attributes = numbers == _GENDERAGE_NUMBERS
    task: ModelTask = "genderage" if attributes else "recognition"
    outputs = (Output(_EMBEDDING_NODE, "gender_and_age" if attributes else "embedding", None),)
    return Network(task, (source,), outputs, (_CROP_PIXELS, _CROP_PIXELS), numbers)


def _numbers(symbol: Symbol, source: Source) -> int:
    """Numbers of the FullyConnected at or before a node."""
    node: Node = symbol.nodes[source.node]
    while node.op != "FullyConnected":
        if not node.inputs or node.op not in ("BatchNorm", "Dropout", "_copy", "identity"):
            raise InvalidModel(f"{symbol.file_name}: node {node.name} ({node.op}) does not return an embedding")
        node = symbol.nodes[node.inputs[0].node]
    return NodeAttributes(node).integer("num_hidden")
