"""Chooses ONNX Runtime's execution provider from the device number and INFERENCE_PROVIDER.

A missing provider is refused by name. No other provider replaces it in silence.
"""

from typing import Any, Literal

import onnxruntime

from service.errors import InvalidSettings

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
