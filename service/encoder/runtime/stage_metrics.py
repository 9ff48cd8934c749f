"""Thread seconds of each stage of the encoders, for metrics and benchmarks."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

Stage = Literal["decode", "detect", "align", "embed"]


@dataclass(frozen=True)
class StageSeconds:
    """Images and faces since the start, and the thread seconds of each stage."""

    pictures: int = 0
    faces: int = 0
    decode: float = 0.0
    detect: float = 0.0
    align: float = 0.0
    embed: float = 0.0


class StageClock:
    """Adds up the reports of the threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums = dict.fromkeys((field.name for field in fields(StageSeconds)), 0.0)

    @contextlib.contextmanager
    def measured(self, stage: Stage) -> Iterator[None]:
        """Add the seconds inside the block to `stage`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(**{stage: time.perf_counter() - began})

    def add(self, **more: float) -> None:
        """Add to the fields of StageSeconds."""
        with self._lock:
            for name, number in more.items():
                self._sums[name] += number

    def total(self) -> StageSeconds:
        """The sums so far."""
        with self._lock:
            sums = dict(self._sums)
        pictures, faces = int(sums.pop("pictures")), int(sums.pop("faces"))
        return StageSeconds(pictures, faces, **sums)
