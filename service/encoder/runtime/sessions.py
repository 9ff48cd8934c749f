"""ONNX Runtime sessions on the device and execution provider that the settings name.

A missing device or provider is refused by name. No other one replaces it in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
import onnxruntime

from service.encoder.networks.session import Session
from service.encoder.runtime.processors import RunCounter
from service.errors import InvalidModel, InvalidSettings

Provider = Literal["cpu", "cuda", "tensorrt", "openvino", "coreml"]

_NAMES: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
_NEEDS_GPU: tuple[Provider, ...] = ("cuda", "tensorrt")
_NEEDS_NO_GPU: tuple[Provider, ...] = ("cpu", "coreml")
_PACKAGES: dict[Provider, str] = {
    "cpu": "onnxruntime",
    "cuda": "onnxruntime-gpu (the extra 'gpu')",
    "tensorrt": "onnxruntime-gpu (the extra 'gpu') with TensorRT",
    "openvino": "onnxruntime-openvino",
    "coreml": "onnxruntime on macOS",
}

_LARGEST_DOUBLED_BYTES = 64 * 2**20
"""A network up to this size is opened twice on a CPU, for one thread and for all threads. That costs its size in memory
again.
"""


@dataclass(frozen=True)
class Device:
    """Device of a network: -1 for the CPU, 0..N for a GPU. Errors name `setting`.

    On a CPU a run has one thread, or all `threads` if `runs` counts no other work.
    """

    number: int = -1
    setting: str = "ENCODER"
    provider: Literal["auto"] | Provider = "auto"
    threads: int = 1
    runs: RunCounter = field(default_factory=RunCounter)

    @property
    def is_processor(self) -> bool:
        """Whether runs share the CPU with everything else."""
        return self.number < 0


PROCESSOR = Device()
"""One thread per run."""


def open_session(model: Path | bytes, device: Device) -> Session:
    """The network, ready to run. Raises InvalidSettings for a missing device, InvalidModel for a bad file."""
    size = len(model) if isinstance(model, bytes) else model.stat().st_size
    narrow = _session(model, device, 1)
    if not device.is_processor or device.threads == 1 or size > _LARGEST_DOUBLED_BYTES:
        return narrow
    return _DividedSession(narrow, _session(model, device, device.threads), device.runs)


class _DividedSession:
    """All threads for a single run, one thread for each of several: 2 processors are busy and never oversubscribed."""

    def __init__(self, narrow: Session, wide: Session, runs: RunCounter) -> None:
        self._narrow, self._wide, self._runs = narrow, wide, runs

    def run(self, outputs: Sequence[str] | None, inputs: dict[str, npt.NDArray[Any]]) -> list[Any]:
        session = self._wide if self._runs.begin() else self._narrow
        try:
            return session.run(outputs, inputs)
        finally:
            self._runs.end()

    def get_inputs(self) -> list[Any]:
        return self._narrow.get_inputs()

    def get_outputs(self) -> list[Any]:
        return self._narrow.get_outputs()


def _session(model: Path | bytes, device: Device, threads: int) -> Session:
    wanted = chosen_provider(device.number, device.provider, device.setting)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # waiting threads sleep instead of spinning, so that other threads can run
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=provider_options(wanted, device.number),
        )
    except Exception as error:  # onnxruntime raises classes of its extension module
        name = "the model" if isinstance(model, bytes) else model.name
        raise InvalidModel(
            f"{name} cannot be opened ({device.setting}={device.number}): {_first_line(error)}"
        ) from None
    if session.get_providers()[0] != wanted:
        raise InvalidSettings(
            f"{device.setting}={device.number}: onnxruntime has {wanted}, but could not start it (are its driver and "
            "libraries installed?)"
        )
    session.disable_fallback()
    opened: Session = session
    return opened


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def chosen_provider(device: int, provider: Literal["auto"] | Provider, setting: str) -> str:
    """ONNX Runtime's name of the provider. Raises InvalidSettings if device and provider do not fit, or the provider is
    missing.

    `auto` is the CPU for device -1 and CUDA for 0..N.
    """
    chosen: Provider = ("cpu" if device < 0 else "cuda") if provider == "auto" else provider
    if chosen in _NEEDS_GPU and device < 0:
        raise InvalidSettings(f"INFERENCE_PROVIDER={chosen} needs a GPU, but {setting}={device} names none")
    if chosen in _NEEDS_NO_GPU and device >= 0:
        raise InvalidSettings(f"INFERENCE_PROVIDER={chosen} has no GPU {device}: set {setting}=-1")
    available = onnxruntime.get_available_providers()
    if _NAMES[chosen] not in available:
        raise InvalidSettings(
            f"{setting}={device} with INFERENCE_PROVIDER={provider} needs {_NAMES[chosen]}, but this onnxruntime "
            f"has only {', '.join(available)}: install {_PACKAGES[chosen]} instead, or choose the CPU"
        )
    return _NAMES[chosen]


def provider_options(name: str, device: int) -> list[Any]:
    """The provider for InferenceSession, followed by the CPU for the few operations that the provider lacks."""
    cpu = _NAMES["cpu"]
    if name == cpu:
        return [cpu]
    if name == _NAMES["cuda"]:
        # the default's exhaustive search would run again for every new input shape
        return [(name, {"device_id": device, "cudnn_conv_algo_search": "HEURISTIC"}), cpu]
    if name == _NAMES["tensorrt"]:
        return [(name, {"device_id": device}), (_NAMES["cuda"], {"device_id": device}), cpu]
    if name == _NAMES["openvino"]:
        return [(name, {"device_type": "CPU" if device < 0 else f"GPU.{device}"}), cpu]
    return [name, cpu]
