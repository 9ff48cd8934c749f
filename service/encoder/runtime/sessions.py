"""ONNX Runtime sessions on the requested device. A missing device is refused; no other device replaces it in
silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
import onnxruntime

from service.encoder.networks.session import Session
from service.encoder.runtime.providers import Provider, chosen_provider, provider_options
from service.encoder.runtime.run_counter import RunCounter
from service.errors import InvalidModel, InvalidSettings

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
