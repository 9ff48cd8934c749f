"""ONNX Runtime sessions on the device that was asked for, or a clear refusal: never another device in silence."""

from pathlib import Path
from typing import Any

import onnxruntime

from service.errors import InvalidModel, InvalidSettings

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


def open_session(model: Path | bytes, device: int, threads: int, setting: str) -> Any:
    """A session on the processor (`device` -1) or GPU number `device`, with `threads` for one run.

    `setting` is named where the device is not there. Raises InvalidSettings or InvalidModel.
    """
    providers = _providers(device, setting)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the others alone
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = onnxruntime.InferenceSession(source, options, providers=providers)
    except Exception as error:  # onnxruntime raises classes of its own extension module
        name = "the model" if isinstance(model, bytes) else model.name
        raise InvalidModel(f"{name} cannot be run on {_spelled(device)}: {_first_line(error)}") from None
    wanted = CPU if device < 0 else CUDA
    if session.get_providers()[0] != wanted:
        raise InvalidSettings(
            f"{setting}={device}: onnxruntime could not start {wanted} (is CUDA with cuDNN installed?)"
        )
    session.disable_fallback()
    return session


def _providers(device: int, setting: str) -> list[Any]:
    if device < 0:
        return [CPU]
    available = onnxruntime.get_available_providers()
    if CUDA not in available:
        raise InvalidSettings(
            f"{setting}={device} asks for a GPU, but this onnxruntime has only {', '.join(available)}; "
            "install the extra 'gpu' or set it to -1"
        )
    return [(CUDA, {"device_id": device}), CPU]


def _spelled(device: int) -> str:
    return "the processor" if device < 0 else f"GPU {device}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
