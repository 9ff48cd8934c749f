"""No embedding, image, key or name is found in logs and errors: a long scenario at DEBUG, then a search.

Each secret value is chosen so that it occurs nowhere by chance.
"""

import base64
import json
import struct
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.access.key_format import new_key, new_operator_key
from service.encoder.fake_pictures import draw_people
from tests.security.conftest import RunningServer

DIMENSION = 16
NUMBERS = [0.731091377 + number / 1000 for number in range(DIMENSION)]
TEXT_CANARY = "Zyxomma Petiolatum"
IMAGE_CANARY = b"CANARY-OF-PICTURE-BYTES"


@dataclass
class Canaries:
    """The secret values, and every error answer."""

    values: dict[str, list[str]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    def found_in(self, text: str) -> list[str]:
        """Return the kinds of canary in a text."""
        return [kind for kind, spellings in self.values.items() if any(one in text for one in spellings)]


class Story:
    """A client that keeps every error answer."""

    def __init__(self, client: httpx.Client, canaries: Canaries) -> None:
        self.client = client
        self.canaries = canaries

    def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request and keep an error answer with its headers."""
        answer = self.client.request(method, path, **arguments)
        if answer.status_code >= 400:
            self.canaries.refusals.append(f"{answer.headers} {answer.text}")
        return answer


def picture(content: bytes) -> bytes:
    """Return a JPEG whose comment contains the canary."""
    return content[:2] + b"\xff\xfe" + struct.pack(">H", len(IMAGE_CANARY) + 2) + IMAGE_CANARY + content[2:]


def spellings_of_number(number: float) -> list[str]:
    """The sent digits, and those of single and half precision; more digits than a time in the log has."""
    return [repr(number)[:9], str(np.float32(number)), str(float(np.float16(number)))]


def spellings_of(secret: str) -> list[str]:
    """The secret part of a key, whole and in halves: a hint of four characters is allowed, more is not."""
    tail = secret.rpartition("_")[2]
    return [tail, tail[:20], tail[20:]]


@pytest.fixture(scope="module")
def canaries(running: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Canaries:
    """The scenario, run once."""
    key, unknown, operator = running.new_tenant(f"canary-{uuid.uuid4().hex[:8]}"), new_key(77), new_operator_key()
    packed = struct.pack(f"<{DIMENSION}f", *NUMBERS)
    told = Canaries(
        {
            "embedding as numbers": [spelling for number in NUMBERS for spelling in spellings_of_number(number)],
            "embedding as bytes": [packed.hex()[:32], base64.b64encode(packed).decode()[:24]],
            "picture": [IMAGE_CANARY.decode(), IMAGE_CANARY.hex(), base64.b64encode(IMAGE_CANARY).decode()[:24]],
            "a tenant's key": spellings_of(key),
            "a key that is not known": spellings_of(unknown),
            "an operator's key": [*spellings_of(operator), *spellings_of(running.operator_key)],
            "a person's name": [TEXT_CANARY, TEXT_CANARY.replace(" ", "+"), TEXT_CANARY.replace(" ", "%20")],
        }
    )
    with running.process.client(key) as client:
        tell(Story(client, told), [unknown, operator, key[:-1] + "!"])
    command_line(running, tmp_path_factory.mktemp("canaries"))
    return told


def tell(story: Story, wrong_keys: list[str]) -> None:
    """Use embeddings, images and keys in every way, correctly and incorrectly."""
    ada = picture(draw_people(["Ada"]))
    story.ask("POST", "/v1/galleries", json={"name": "staff"})
    story.ask("POST", "/v1/galleries", json={"name": "numbers", "embedding_space": f"external:canary:{DIMENSION}"})
    for gallery in ("staff", "numbers"):
        person = {"name": TEXT_CANARY, "metadata": {"note": TEXT_CANARY}}
        made = story.ask("POST", f"/v1/galleries/{gallery}/people", json=person).json()["id"]
        place = f"/v1/galleries/{gallery}/people/{made}"
        story.ask("POST", f"/v1/galleries/{gallery}/people", json=person)
        for content in (ada, ada[:-200], ada[:100], IMAGE_CANARY, b"GIF89a" + IMAGE_CANARY):
            files = {"image": (f"{TEXT_CANARY}.jpg", content)}
            story.ask("POST", f"{place}/faces", files=files)
            story.ask("POST", f"{place}/verify", files=files)
            for path in (f"/v1/galleries/{gallery}/recognize", "/v1/detect", "/v1/encode"):
                story.ask("POST", path, files=files)
        for values in wrong_and_right():
            body = json.dumps({"embedding": values})
            for path in (f"{place}/faces", f"{place}/verify", f"/v1/galleries/{gallery}/recognize"):
                story.ask("POST", path, content=body, headers={"Content-Type": "application/json"})
    for dataset in datasets():
        job = story.ask("POST", "/v1/galleries/numbers/import", content=dataset).json().get("job")
        if job:
            story.canaries.refusals.append(ended(story, job))
    story.ask("GET", "/v1/galleries/numbers/export", params={"format": "nonsense"})
    story.ask("GET", "/v1/galleries/numbers/people", params={"name": TEXT_CANARY, "limit": 0})
    for wrong in wrong_keys:
        for headers in ({"X-API-Key": wrong}, {"X-API-Key": "", "Authorization": f"Bearer {wrong}"}):
            story.ask("GET", "/v1/galleries", headers=headers)
            story.ask("GET", "/v1/operator/tenants", headers=headers)
            story.ask("GET", "/v1/galleries", params={"key": wrong, "api_key": wrong}, headers=headers)
    story.ask("POST", "/v1/keys", json={"name": "x", "scopes": ["nonsense"]})


def wrong_and_right() -> list[list[Any]]:
    """The embedding, and one variant for each mistake."""
    huge, word = [*NUMBERS[:-1], 1e300], [*NUMBERS[:-1], "word"]
    return [NUMBERS, NUMBERS[:-1], huge, word, [*NUMBERS[:-1], None], [NUMBERS], [*NUMBERS[:-1], float("nan")]]


def datasets() -> list[bytes]:
    """A dataset, and one variant for each mistake."""
    row = ",".join(str(number) for number in NUMBERS)
    rows = [[[TEXT_CANARY, row]], [[TEXT_CANARY, row + ",x"]], [[TEXT_CANARY, row], [TEXT_CANARY]], [NUMBERS]]
    whole = [json.dumps(one).encode() for one in rows]
    return [
        *whole,
        whole[0][:-30],
        json.dumps({"person": TEXT_CANARY, "embedding": NUMBERS[:-1]}).encode(),
        b"[" + row.encode(),
    ]


def ended(story: Story, job: str) -> str:
    """Return the job after it has ended."""
    while True:
        answer = story.ask("GET", f"/v1/jobs/{job}")
        if answer.json()["status"] in {"succeeded", "failed"}:
            return answer.text
        time.sleep(0.05)


def command_line(running: RunningServer, folder: Path) -> None:
    """Commands that fail, at DEBUG, into the same log."""
    (folder / "dataset.json").write_bytes(datasets()[1])
    (folder / "broken.jpg").write_bytes(IMAGE_CANARY)
    for arguments in (["import", str(folder / "dataset.json")], ["detect", str(folder / "broken.jpg")]):
        running.process.command_that_fails(*arguments)


def logs_of(running: RunningServer) -> dict[str, str]:
    """Return the logs of server, commands and database."""
    folder = running.process.folder
    logs = [path for path in folder.rglob("*") if path.is_file() and (path.suffix == ".log" or "log" in path.parts)]
    return {str(path.relative_to(folder)): path.read_text(errors="replace") for path in logs}


def test_the_recorded_story_contains_logs_and_refusals(running: RunningServer, canaries: Canaries) -> None:
    """The search works, the scenario ran, and its events are in the searched logs."""
    assert canaries.found_in(f"x {NUMBERS} y") == ["embedding as numbers"]
    assert len(canaries.refusals) > 80
    logs = logs_of(running)
    assert "serve.log" in logs
    assert logs["serve.log"].count('"level": "debug"') + logs["serve.log"].count('"level": "info"') > 100
    assert "/v1/galleries/{gallery}/recognize" in logs["serve.log"]


def test_no_canary_is_in_any_log(running: RunningServer, canaries: Canaries) -> None:
    found = {name: canaries.found_in(text) for name, text in logs_of(running).items()}
    print(f"{sum(len(kinds) for kinds in found.values())} canaries in {len(found)} logs: {sorted(found)}")
    assert {name: kinds for name, kinds in found.items() if kinds} == {}


def test_no_canary_is_in_any_refusal(canaries: Canaries) -> None:
    """A name may be told to its owner: a person's name in the answer about that person."""
    kinds = {kind for refusal in canaries.refusals for kind in canaries.found_in(refusal)}
    assert kinds <= {"a person's name"}
