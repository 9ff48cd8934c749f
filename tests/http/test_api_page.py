"""The HTML pages of the application: no script, nothing from another server, and every text escaped."""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute, Route

from service.http.api_page import render_api_page

LOADING_ATTRIBUTES = {"src", "href", "action", "data", "poster", "srcset", "formaction", "background"}


class Page(HTMLParser):
    """The elements and the addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.addresses: set[str] = set()
        self.handlers: set[str] = set()
        self.styles: set[str] = set()
        self.feed(text)
        self.styles |= set(re.findall("<style>(.*?)</style>", text, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.addresses |= {value or "" for name, value in attrs if name in LOADING_ATTRIBUTES}
        self.handlers |= {name for name, _ in attrs if name.startswith("on") or name == "style"}


def fixed_paths(routes: Iterable[BaseRoute]) -> Iterator[str]:
    """The paths without parameters of all routes, also of those inside another route."""
    for route in routes:
        if isinstance(route, Route) and "{" not in route.path:
            yield route.path
        yield from fixed_paths(getattr(route, "routes", None) or [])


async def html_pages(application: FastAPI, client: httpx.AsyncClient) -> dict[str, httpx.Response]:
    """Every answer of the application that is an HTML page, by its path."""
    answers = {path: await client.get(path) for path in set(fixed_paths(application.routes)) | {"/", "/nothing"}}
    return {path: answer for path, answer in answers.items() if "html" in answer.headers.get("content-type", "")}


async def test_no_page_runs_a_script_or_loads_anything_from_elsewhere(
    application: FastAPI, client: httpx.AsyncClient
) -> None:
    pages = await html_pages(application, client)
    assert set(pages) == {"/docs", "/legacy/docs"}
    for answer in pages.values():
        page = Page(answer.text)
        assert not page.elements & {"script", "link", "iframe", "img", "object", "embed", "base", "form"}
        assert page.handlers == set()
        assert page.addresses == {"openapi.json"}


async def test_every_page_allows_its_own_style_and_nothing_else(
    application: FastAPI, client: httpx.AsyncClient
) -> None:
    for answer in (await html_pages(application, client)).values():
        (style,) = Page(answer.text).styles
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        allowed = f"default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{digest}'"
        assert answer.headers["content-security-policy"] == allowed


async def test_every_page_shows_each_operation_of_its_document(application: FastAPI, client: httpx.AsyncClient) -> None:
    for path, answer in (await html_pages(application, client)).items():
        document = (await client.get(httpx.URL(path).join("openapi.json"))).json()
        operations = [(method.upper(), name) for name, methods in document["paths"].items() for method in methods]
        assert len(operations) >= 6
        for method, name in operations:
            assert f"<b>{method}</b> <code>{name}</code>" in answer.text


async def test_the_page_of_the_legacy_api_names_its_scope(client: httpx.AsyncClient) -> None:
    page = (await client.get("/legacy/docs")).text
    assert "<code>recognize</code>" in page
    assert "No key is needed." not in page


def described(**operation: Any) -> dict[str, Any]:
    """A document with one operation."""
    responses = {"200": {"description": "The answer."}}
    paths = {"/things": {"get": {"description": "Do it.", "responses": responses, **operation}}}
    return {"info": {"title": "API", "version": "1"}, "paths": paths, "components": {"schemas": {}}}


@pytest.mark.parametrize("place", ["title", "tag", "description", "parameter", "example"])
def test_every_text_of_the_document_is_escaped(place: str) -> None:
    text = "<script>alert('1')</script>"
    document = described(
        tags=[text if place == "tag" else "things"],
        description=text if place == "description" else "",
        parameters=[{"name": text if place == "parameter" else "limit", "in": "query"}],
        requestBody={"content": {"application/json": {"example": {"a": text if place == "example" else 1}}}},
    )
    document["info"]["title"] = text if place == "title" else "API"
    page = render_api_page(document)
    assert "script" not in Page(page).elements
    assert "&lt;script&gt;" in page


def test_an_operation_without_a_scope_needs_no_key() -> None:
    assert "No key is needed." in render_api_page(described())
    assert "No key is needed." not in render_api_page(described(**{"x-needed-scope": "read"}))


def test_the_example_of_a_list_is_a_page_with_the_example_of_its_item() -> None:
    page = {"properties": {"items": {"items": {"$ref": "#/components/schemas/Thing"}}}}
    document = described(responses={"200": {"content": {"application/json": {"schema": page}}}})
    document["components"]["schemas"]["Thing"] = {"examples": [{"name": "Ada"}]}
    shown = render_api_page(document)
    assert "&#34;name&#34;: &#34;Ada&#34;" in shown
    assert "next_cursor" in shown
