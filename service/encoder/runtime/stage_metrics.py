"""How long each stage of the encoders kept their threads, for metrics and benchmarks."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

Stage = Literal["decode", "detect", "align", "embed"]


@dataclass(frozen=True)
class StageSeconds:
    """Pictures and faces since the start, and seconds that threads spent on each stage of them."""

    pictures: int = 0
    faces: int = 0
    decode: float = 0.0
    detect: float = 0.0
    align: float = 0.0
    embed: float = 0.0


class StageClock:
    """Adds up what threads report."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums = dict.fromkeys((field.name for field in fields(StageSeconds)), 0.0)

    @contextlib.contextmanager
    def measured(self, stage: Stage) -> Iterator[None]:
        """The seconds inside the block belong to `stage`."""
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
        """What was counted so far."""
        with self._lock:
            sums = dict(self._sums)
        pictures, faces = int(sums.pop("pictures")), int(sums.pop("faces"))
        return StageSeconds(pictures, faces, **sums)
