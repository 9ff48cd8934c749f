"""What a network needs of the thing that runs it, so that this folder does not depend on ONNX Runtime."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy.typing as npt


class Session(Protocol):
    """The used part of onnxruntime.InferenceSession. Several threads may call `run` at a time."""

    def run(self, outputs: Sequence[str] | None, inputs: dict[str, npt.NDArray[Any]]) -> list[Any]:
        """The requested outputs (None: all), in order."""
        ...

    def get_inputs(self) -> list[Any]:
        """Names, types and shapes of the inputs."""
        ...

    def get_outputs(self) -> list[Any]:
        """Names, types and shapes of the outputs."""
        ...
