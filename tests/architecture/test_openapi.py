"""The OpenAPI document, from which clients are generated, changes only on purpose.

After an intended change: `python -m tests.architecture.test_openapi > tests/architecture/openapi.json`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.app import create_app
from service.http.openapi import OPERATOR_SECURITY, SECURITY
from service.settings import Settings

SNAPSHOT = Path(__file__).with_name("openapi.json")
USUAL_PROBLEMS = {"401", "403", "404", "422", "429", "503"}


def document() -> dict[str, Any]:
    """The document of an application whose settings do not depend on the machine."""
    return create_app(Settings(_env_file=None, encoder="fake")).openapi()


def render() -> str:
    """The text of the snapshot, without the version, which changes with every release."""
    described = document()
    described["info"]["version"] = ""
    return json.dumps(described, indent=1, ensure_ascii=False) + "\n"


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation with its name."""
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_is_as_it_was_when_somebody_last_looked() -> None:
    assert json.loads(SNAPSHOT.read_text()) == json.loads(render()), __doc__


def test_every_operation_says_what_it_does() -> None:
    assert [name for name, operation in operations() if not operation.get("description")] == []


def test_every_operation_has_examples_of_what_is_sent_and_answered() -> None:
    schemas = document()["components"]["schemas"]
    missing = []
    for name, operation in operations():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        bodies += [answer for status, answer in operation["responses"].items() if status.startswith("2")]
        for body in bodies:
            content = body.get("content", {})
            if content and not any(_has_example(media, schemas) for media in content.values()):
                missing.append(name)
    assert missing == []


def test_every_keyed_operation_names_its_key_and_its_problems() -> None:
    for name, operation in operations():
        if operation["tags"] == ["health"]:
            continue
        of_operator = operation["x-needed-scope"] == "operator"
        assert operation["security"] == (OPERATOR_SECURITY if of_operator else SECURITY), name
        assert operation["responses"].keys() >= USUAL_PROBLEMS - ({"429"} if of_operator else set()), name
        assert all(
            "application/problem+json" in answer["content"]
            for status, answer in operation["responses"].items()
            if status >= "4"
        ), name


def _has_example(media: dict[str, Any], schemas: dict[str, Any]) -> bool:
    schema = media.get("schema", {})
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    items = schema.get("properties", {}).get("items", {})  # a page contains what its items contain
    of_items = schemas[items["items"]["$ref"].rpartition("/")[2]] if "items" in items else {}
    is_form = schema.get("required") in (["image"], ["file"])
    return is_form or "example" in media or "examples" in media or "examples" in schema or "examples" in of_items


if __name__ == "__main__":
    print(render(), end="")
