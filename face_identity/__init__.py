"""The face identity service as a module: `from face_identity import Recognizer`.

It exports the public names of the package `service`. Python imports only one package of that name: if an application
has a package `service` of its own, the import fails here with the folder's name, and not later at an import that seems
to have nothing to do with it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import service

if Path(service.__file__ or "").parent.parent != Path(__file__).parent.parent:
    raise ImportError(
        f"face_identity needs its own package `service`, but Python found another one: {service.__file__}. Rename that "
        "package, or install the face identity service in an environment of its own and call it over HTTP."
    )

if TYPE_CHECKING:
    from service import RecognizedFace as RecognizedFace
    from service import Recognizer as Recognizer
    from service import References as References
    from service import ServiceError as ServiceError

__all__ = ["RecognizedFace", "Recognizer", "References", "ServiceError"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(service, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
