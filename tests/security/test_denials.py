"""Every denial is in the log, under the id in its answer, with tenant and key if they are known."""

import json
import time
import uuid
from typing import Any

import httpx
import pytest

from service.access.key_format import new_key
from tests.security.conftest import WAIT_SECONDS, RunningServer


def logged(running: RunningServer, request_id: str) -> dict[str, Any]:
    """Wait for the log line of a request and return it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for line in running.process.log.splitlines():
            if request_id in line and '"event": "request"' in line:
                found: dict[str, Any] = json.loads(line)
                return found
        time.sleep(0.05)
    raise AssertionError(f"{request_id} is not in the log")


def ask(client: httpx.Client, method: str, path: str, **arguments: Any) -> tuple[int, str]:
    """Return the status and the request id of an answer."""
    answer = client.request(method, path, **arguments)
    return answer.status_code, answer.headers["x-request-id"]


@pytest.mark.parametrize("key", [None, "nonsense", new_key(7)], ids=["none", "malformed", "unknown"])
def test_a_refused_caller_without_a_valid_key_is_logged(running: RunningServer, key: str | None) -> None:
    with running.process.client(key) as client:
        status, request_id = ask(client, "GET", "/v1/galleries")
    line = logged(running, request_id)
    assert (status, line["status"], line["tenant"]) == (401, 401, None)


def test_a_refused_caller_is_logged_with_tenant_and_key(running: RunningServer) -> None:
    with running.client(f"denials-{uuid.uuid4().hex[:8]}") as admin:
        wanted = {"name": "door", "scopes": ["read"], "requests_per_minute": 2}
        made = admin.post("/v1/keys", json=wanted).json()
    with running.process.client(made["key"]) as door:
        asked = [ask(door, "DELETE", "/v1/galleries/staff"), ask(door, "GET", "/v1/galleries/none")]
        asked.append(ask(door, "GET", "/v1/galleries"))
    assert [status for status, _ in asked] == [403, 404, 429]
    lines = [logged(running, request_id) for _, request_id in asked]
    assert [line["status"] for line in lines] == [403, 404, 429]
    assert [line["key"] for line in lines[:2]] == [made["id"]] * 2
    assert lines[0]["tenant"] is not None
    assert lines[0]["route"] == "/v1/galleries/{gallery}"
