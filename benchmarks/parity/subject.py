"""One network of the comparison."""

from dataclasses import dataclass
from pathlib import Path

from service.models.mxnet.manifest import ModelTask


@dataclass(frozen=True)
class Subject:
    """One network: MXNet's two files, and the ONNX file that was converted from them."""

    name: str
    task: ModelTask
    weights: str
    symbol: Path
    parameters: Path
    model: Path
    landmark_scale: float = 1.0
