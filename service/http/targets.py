"""Heads of requests that a proxy and this server could read differently.

Targets: those in absolute form, and slashes that are encoded within a segment of the path.

The server decodes a path before routes are matched, so that an external id with a slash would become two segments.
"""

from urllib.parse import unquote

from starlette.types import Scope

_SLASH = "\uffff"
"""Stands for a slash within a segment while routes are matched. It is not a character, so no name has it."""


def normalize_target(scope: Scope) -> None:
    """Rewrite the path of a request: `http://host/healthz` is `/healthz`, and an encoded slash ends no segment."""
    root = scope.get("root_path", "")
    raw = scope.get("raw_path", b"").decode("ascii", "replace").removeprefix(root)
    if raw.lower().startswith(("http://", "https://")):
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    elif "%2f" not in raw.lower():
        return
    path = "/".join(unquote(segment).replace("/", _SLASH) for segment in raw.split("/"))
    scope["raw_path"], scope["path"] = (root + raw).encode("ascii", "replace"), root + path


def has_two_lengths(scope: Scope) -> bool:
    """Whether the head has both Content-Length and Transfer-Encoding (RFC 9112, 6.3): a sign of request smuggling."""
    names = {name for name, _ in scope["headers"]}
    return {b"content-length", b"transfer-encoding"} <= names


def restore_slashes(scope: Scope) -> None:
    """Put the slashes back into the parameters of the path."""
    parameters = scope.get("path_params", {})
    if any(_SLASH in str(value) for value in parameters.values()):
        scope["path_params"] = {name: str(value).replace(_SLASH, "/") for name, value in parameters.items()}
