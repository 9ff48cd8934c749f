"""Additions to the OpenAPI document: the two ways to send a key, and the problems of each route."""

import itertools
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, RedirectResponse

from service.errors import ServiceError, title_of
from service.http.api_page import answer_with_api_page
from service.http.problems import MEDIA_TYPE, TYPE_PREFIX

SECURITY: list[dict[str, list[str]]] = [{"ApiKey": []}, {"Bearer": []}]
OPERATOR_SECURITY: list[dict[str, list[str]]] = [{"OperatorApiKey": []}, {"OperatorBearer": []}]
_SCHEMES = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
    "OperatorApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An operator key."},
    "OperatorBearer": {"type": "http", "scheme": "bearer", "description": "An operator key."},
}
_PROBLEM = {
    "title": "Problem",
    "description": "RFC 9457. The end of `type` names the kind of problem for programs, `detail` is for people.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "The wrong fields, if fields are wrong.",
            "items": {
                "type": "object",
                "required": ["field", "reason"],
                "properties": {"field": {"type": "string"}, "reason": {"type": "string"}},
            },
        },
    },
}


def problems(*kinds: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can answer these problems, with an example for each."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        responses = join_responses(responses, {kind.status: _problem_response({kind.slug: {"value": _example(kind)}})})
    return responses


def join_responses(*parts: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of several parts of a route. If several parts have problems of one status, all are listed."""
    joined: dict[int | str, dict[str, Any]] = {}
    for status, response in itertools.chain.from_iterable(part.items() for part in parts):
        examples = _problem_examples(joined.get(status, {})) | _problem_examples(response)
        joined[status] = _problem_response(examples) if examples else response
    return joined


def _problem_response(examples: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
    description = " ".join(f"{example['value']['title']}." for example in examples.values())
    return {"description": description, "content": {MEDIA_TYPE: content}}


def _problem_examples(response: dict[str, Any]) -> dict[str, Any]:
    examples: dict[str, Any] = response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
    return examples


def leads_to(*operations: str, answer: int = 201, **parameters: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that makes a resource: links to the operations on it, with the values from the
    `answer`.

    `parameters` are runtime expressions of OpenAPI without their `$`, such as `person="response.body#/id"`.
    """
    named = {name: f"${expression}" for name, expression in parameters.items()}
    return {answer: {"links": {name: {"operationId": name, "parameters": named} for name in operations}}}


def operation_id(route: APIRoute) -> str:
    """The operation id, which names the operation in generated clients: `people_create`."""
    return f"{route.endpoint.__module__.rpartition('.')[2]}_{route.name}"


def document(app: FastAPI) -> None:
    """Describe keys and problems in the OpenAPI document of `app`, and serve it at `/openapi.json` and as a page at
    `/docs`, to which `/` leads. `app` was made with `openapi_url=None`.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    async def api_page(_: Request) -> Response:
        return answer_with_api_page(openapi())

    async def api_document(request: Request) -> Response:
        return JSONResponse(openapi() | _servers(request))

    async def front_door(request: Request) -> Response:
        prefix = request.scope.get("root_path", "")
        return RedirectResponse(f"{prefix}/docs" if prefix else "docs")

    app.openapi = openapi  # type: ignore[method-assign]
    app.add_route("/", front_door, include_in_schema=False)
    app.add_route("/docs", api_page, include_in_schema=False)
    app.add_route("/openapi.json", api_document, include_in_schema=False)


def _servers(request: Request) -> dict[str, Any]:
    """The server of a document: the prefix of the paths, if a proxy adds one."""
    prefix = request.scope.get("root_path", "")
    return {"servers": [{"url": prefix}]} if prefix else {}


BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
"""A file in a form. OpenAPI 3.1 prefers `contentMediaType`, but generators of clients know only `format`."""
_OTHER_FORMS = (
    "Or, with its own content type: the image itself (`image/jpeg`, ...), or JSON with the image as base64, "
    '`{"image": "..."}`.'
)


def body_of_images(images: str, least: int = 1, most: int = 1) -> dict[str, Any]:
    """The `openapi_extra` of a route that takes images, `least` to `most`.

    The document lists the form alone, as `format: binary`. The other forms of an image are told in words, because
    generators choose wrongly if there are several: openapi-generator takes any JSON and then sends no image.
    """
    several: dict[str, Any] = {"type": "array", "items": BINARY, "minItems": least, "maxItems": most}
    image = (BINARY if most == 1 else several) | {"description": images}
    form = {"type": "object", "required": ["image"], "additionalProperties": False, "properties": {"image": image}}
    content = {"multipart/form-data": {"schema": form, "encoding": {"image": {"contentType": "image/*"}}}}
    told = {"description": _OTHER_FORMS} if least == 1 else {}
    return {"requestBody": {"required": True, "content": content, **told}}


def body_of_json(schema: dict[str, Any]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads JSON itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _describe(app: FastAPI) -> dict[str, Any]:
    described = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        tags=app.openapi_tags,
        routes=app.routes,
        license_info=app.license_info,
    )
    components = described.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = _PROBLEM
    components["securitySchemes"] = _SCHEMES
    return described


def _example(kind: type[ServiceError]) -> dict[str, Any]:
    return {
        "type": TYPE_PREFIX + kind.slug,
        "title": title_of(kind),
        "status": kind.status,
        "detail": "What went wrong, and where.",
        "request_id": "0f8c1d2e3b4a5968",
    }
