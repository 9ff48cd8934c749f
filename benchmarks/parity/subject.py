"""One network that is compared."""

from dataclasses import dataclass
from pathlib import Path

from service.encoder.mxnet.manifest import Task


@dataclass(frozen=True)
class Subject:
    """One network: MXNet's two files, and the ONNX file that was made of them."""

    name: str
    task: Task
    weights: str
    symbol: Path
    parameters: Path
    model: Path
    landmark_scale: float = 1.0
