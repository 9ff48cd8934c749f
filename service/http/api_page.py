"""The documentation page of an OpenAPI document, as plain HTML.

The page holds no script and loads nothing from elsewhere: people type keys on such pages, and the machine may have no
way to the internet. `templates/api_page.html` is the page; this file prepares what the template shows.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse

_TEMPLATES = Environment(loader=PackageLoader("service.http"), autoescape=True)
_STYLE_DIGEST = hashlib.sha256(_TEMPLATES.get_template("api_page.css").render().encode()).digest()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{base64.b64encode(_STYLE_DIGEST).decode()}'"
)
"""Allows the style of the page, known by its digest, and nothing else."""


def answer_with_api_page(document: dict[str, Any]) -> HTMLResponse:
    """The answer of a route that documents an API."""
    return HTMLResponse(render_api_page(document), headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


def render_api_page(document: dict[str, Any]) -> str:
    """The whole page for an OpenAPI document. Every text of the document is escaped."""
    template = _TEMPLATES.get_template("api_page.html")
    return template.render(info=document["info"], tags=_operations_by_tag(document))


def _operations_by_tag(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    tags: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            shown = {
                "method": method.upper(),
                "path": path,
                "description": operation.get("description", ""),
                "scope": operation.get("x-needed-scope"),
                "parameters": operation.get("parameters", []),
                "bodies": list(_bodies(document, operation)),
            }
            tags.setdefault(operation.get("tags", ["other"])[0], []).append(shown)
    return tags


def _bodies(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The request body and the response of each status, with an example for each media type."""
    request = {"Request": operation["requestBody"]} if "requestBody" in operation else {}
    for title, body in {**request, **operation["responses"]}.items():
        examples = {media_type: _example_text(document, media) for media_type, media in body.get("content", {}).items()}
        yield {"title": title, "description": body.get("description", ""), "examples": examples}


def _example_text(document: dict[str, Any], media: dict[str, Any]) -> str | None:
    example = _example(document, media)
    if example is None or isinstance(example, str):
        return example
    return json.dumps(example, indent=2, ensure_ascii=False)


def _example(document: dict[str, Any], media: dict[str, Any]) -> Any:
    """The first example of a body, of its schema, or for a page of a list of its items. None if there is no example."""
    if "example" in media or "examples" in media:
        return media.get("example") or next(iter(media["examples"].values()))["value"]
    schema = _resolve(document, media.get("schema", {}))
    if "examples" in schema:
        return schema["examples"][0]
    items = schema.get("properties", {}).get("items", {})
    if "items" in items:
        return {"items": _resolve(document, items["items"]).get("examples", [])[:1], "next_cursor": None}
    return None


def _resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a `$ref` points to, or the schema itself."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    resolved: dict[str, Any] = document["components"]["schemas"][reference.rpartition("/")[2]]
    return resolved
