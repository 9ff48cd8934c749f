"""Face identity service: enroll people, recognize faces by nearest-neighbour SQL.

As a module it offers `Recognizer`, which is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.identity.in_memory import References
    from service.recognizer import RecognizedFace, Recognizer

__all__ = ["RecognizedFace", "Recognizer", "References"]
_PLACES = {
    "RecognizedFace": "service.recognizer",
    "Recognizer": "service.recognizer",
    "References": "service.identity.in_memory",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
