"""Face identity service: enroll people, recognize faces by nearest-neighbour SQL.

As a module it offers `Recognizer`. The name is imported on first use, because its libraries take long to load.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.errors import ServiceError
    from service.identity.in_memory import References
    from service.recognizer import RecognizedFace, Recognizer

__all__ = ["RecognizedFace", "Recognizer", "References", "ServiceError"]
_PLACES = {
    "RecognizedFace": "service.recognizer",
    "Recognizer": "service.recognizer",
    "References": "service.identity.in_memory",
    "ServiceError": "service.errors",
}

# ONNX Runtime 1.29 and newer has telemetry switched on in its Linux and macOS wheels: it writes a device id below
# ~/.cache and looks up a host of its vendor. Only this variable stops it, and only if it is set before the library is
# loaded (`disable_telemetry_events()` comes too late). Every entry point imports this package first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
