"""The face identity service as a module: `from face_identity import Recognizer`.

It re-exports the façade of the package `service`. An application that has a folder `service` of its own imports this
name, which cannot clash with it.
"""

from typing import TYPE_CHECKING

import service

if TYPE_CHECKING:
    from service import RecognizedFace as RecognizedFace
    from service import Recognizer as Recognizer
    from service import References as References

__all__ = ["RecognizedFace", "Recognizer", "References"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(service, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
