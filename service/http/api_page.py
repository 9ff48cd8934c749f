"""The page behind `/docs`: the OpenAPI document for people, as plain HTML.

No script and nothing from elsewhere: people type keys on such pages, and the machine may have no way to the internet.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
details { border: 1px solid #8886; border-radius: .4rem; margin: .4rem 0; padding: .3rem .8rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
summary b { display: inline-block; min-width: 4.5rem; }
pre { overflow-x: auto; background: #8881; padding: .6rem; border-radius: .3rem; font-size: .85rem; }
td, th { text-align: left; vertical-align: top; padding: .1rem 1rem .1rem 0; }
"""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'"
)


def render_api_page(document: dict[str, Any]) -> str:
    """The whole page for an OpenAPI document."""
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<style>{STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        "<p>For tools: <a href=openapi.json>openapi.json</a></p>",
    ]
    for tag, operations in _by_tag(document).items():
        parts.append(f"<h2>{escape(tag)}</h2>")
        parts += [_operation(document, *operation) for operation in operations]
    return "\n".join(parts)


def _by_tag(document: dict[str, Any]) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    tags: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation.get("tags", ["other"])[0], []).append((method.upper(), path, operation))
    return tags


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    scope = operation.get("x-needed-scope")
    parts = [
        f"<details><summary><b>{method}</b> <code>{escape(path)}</code></summary>",
        f"<p>{escape(operation.get('description', ''))}</p>",
        f"<p>Scope: <code>{escape(scope)}</code></p>" if scope else "<p>No key is needed.</p>",
        _parameters(operation.get("parameters", [])),
        *_contents(document, "Request", operation.get("requestBody", {})),
    ]
    for status, answer in operation["responses"].items():
        parts += _contents(document, status, answer)
    return "".join([*parts, "</details>"])


def _parameters(parameters: list[dict[str, Any]]) -> str:
    rows = [
        f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}<td>{escape(one.get('description', ''))}"
        for one in parameters
    ]
    return f"<table><tr><th>Parameter<th>in<th>meaning{''.join(rows)}</table>" if rows else ""


def _contents(document: dict[str, Any], title: str, body: dict[str, Any]) -> Iterator[str]:
    if not body:
        return
    yield f"<h3>{escape(title)}</h3><p>{escape(body.get('description', ''))}</p>"
    for media_type, media in body.get("content", {}).items():
        example = _example(document, media)
        shown = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
        yield f"<p><code>{escape(media_type)}</code></p>"
        yield f"<pre>{escape(shown)}</pre>" if example is not None else ""


def _example(document: dict[str, Any], media: dict[str, Any]) -> Any:
    """The first example of a body: its own, its schema's, or for a page that of its items; None where there is none."""
    if "example" in media or "examples" in media:
        return media.get("example") or next(iter(media["examples"].values()))["value"]
    schema = _resolved(document, media.get("schema", {}))
    if "examples" in schema:
        return schema["examples"][0]
    items = schema.get("properties", {}).get("items", {})
    if "items" in items:
        return {"items": _resolved(document, items["items"]).get("examples", [])[:1], "next_cursor": None}
    return None


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: dict[str, Any] = document["components"]["schemas"][reference.rpartition("/")[2]]
    return found
