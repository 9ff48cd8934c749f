"""Contract fuzzing: schemathesis against a server process, over every operation of the OpenAPI document.

`python -m tests.security.fuzz` (`make fuzz`) runs at least 10,000 cases with all checks, the stateful checks too, and
fails at the first answer that the document does not allow.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from service.encoder.fake_pictures import draw_people
from tests.support.folders import OpenFolder
from tests.support.server import ROOT_FOLDER, ServerProcess

HERE = Path(__file__).parent
PROGRAM = Path(sys.executable).with_name("schemathesis")
LEAST_CASES = 10_000
LEAST_ROUNDS = 2
STATEFUL_SECONDS = "120"
DIMENSIONS = 3
"""Of the gallery of external embeddings."""
SPARE_FACES = 30
"""Faces of each of its people that may be deleted."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run. `passed` is True if every case was answered in agreement with the document."""

    passed: bool
    cases: int
    operations: int
    report: str


@contextmanager
def served() -> Iterator[ServerProcess]:
    """A server process with an empty database of its own."""
    with OpenFolder() as folder:
        process = ServerProcess(Path(folder), LOGGER_LEVEL="WARNING")
        try:
            yield process
        finally:
            process.close()


def fuzz(process: ServerProcess, operator_key: str, *options: str) -> Outcome:
    """Run schemathesis with `options` as a fresh tenant of a started server."""
    with process.client(operator_key) as operator, tempfile.TemporaryDirectory() as folder:
        name = f"fuzz-{uuid.uuid4().hex[:8]}"
        key = operator.post("/v1/operator/tenants", json={"name": name}).json()["key"]
        with process.client(key) as client:
            kept = [name, _id_of(key, client, "/v1/keys"), _id_of(operator_key, operator, "/v1/operator/keys")]
            kept += fill(client, Path(folder))
        done = subprocess.run(
            [
                PROGRAM,
                *("--config-file", "fuzz.toml", "run", f"{process.url}/openapi.json"),
                *("--checks", "all", "--no-color", *options),
            ],
            check=False,
            cwd=folder,
            env=os.environ
            | {
                "FUZZ_KEY": key,
                "FUZZ_OPERATOR_KEY": operator_key,
                "FUZZ_KEPT": " ".join(kept),
                "SCHEMATHESIS_HOOKS": "tests.security.fuzz_hooks",
                "PYTHONPATH": str(ROOT_FOLDER),
            },
            capture_output=True,
            text=True,
        )
        with process.client(key) as client:
            assert client.get("/v1/usage").status_code == 200, "the run lost its tenant or its key"
            assert len(client.get("/v1/galleries/staff/people").json()["items"]) >= 2, "the run lost its people"
        assert operator.get("/v1/operator/keys").status_code == 200, "the run lost its operator's key"
    return Outcome(
        passed=done.returncode == 0,
        cases=_number(r"(\d+) generated", done.stdout),
        operations=_number(r"Tested: (\d+)", done.stdout),
        report=done.stdout + done.stderr,
    )


def fill(client: httpx.Client, folder: Path) -> list[str]:
    """Make galleries, people and faces, write their names for schemathesis, and protect those that must stay."""
    shutil.copy(HERE / "fuzz.toml", folder)
    client.post("/v1/galleries", json={"name": "staff"})
    client.post("/v1/galleries", json={"name": "numbers", "embedding_space": f"external:fuzz:{DIMENSIONS}"})
    people, faces = [], []
    for gallery in ("staff", "numbers"):
        for name in ("Ada", "Grace", "Alan"):
            person = client.post(f"/v1/galleries/{gallery}/people", json={"name": name}).json()["id"]
            path = f"/v1/galleries/{gallery}/people/{person}/faces"
            picture = {"files": {"image": ("a.jpg", draw_people([name]))}}
            made = client.post(path, **picture if gallery == "staff" else {"json": {"embedding": [1, 2, len(name)]}})
            people.append(person)
            faces.append(made.json()["faces"][0]["id"])
            for number in range(SPARE_FACES if gallery == "numbers" else 0):
                client.post(path, json={"embedding": [number, 2, len(name)]})
    (folder / "people.txt").write_text("\n".join(f'"{person}"' for person in people))
    (folder / "faces.txt").write_text("\n".join(f'"{face}"' for face in faces))
    return ["staff", "numbers", *people[:-1], *faces[:-1]]  # the last person and face may be deleted


def _id_of(key: str, client: httpx.Client, path: str) -> str:
    found = client.get(path).json()["items"]
    return next(str(one["id"]) for one in found if key.startswith(one["hint"].rstrip("…")))


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text.replace(",", ""))
    return int(found.group(1)) if found else 0


def main() -> int:
    """Run the requested number of cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=LEAST_CASES, help="the least number of cases")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with served() as process:
        key = json.loads(process.command("operator", "keys", "create", "--json"))["key"]
        process.start()
        # First the cases that follow from created and deleted resources, then every operation alone until there are
        # enough cases.
        options: tuple[str, ...] = ("--phases", "stateful", "--max-time", STATEFUL_SECONDS)
        total, round_number = 0, 0
        while total < asked.cases or round_number < LEAST_ROUNDS:
            outcome = fuzz(process, key, "--seed", str(asked.seed + round_number), *options)
            options = ("--max-examples", "150")
            total, round_number = total + outcome.cases, round_number + 1
            print(outcome.report)
            print(f"{total} cases over {outcome.operations} operations, {round_number} rounds")
            if not outcome.passed:
                return 1
            assert outcome.cases, "no case was run"
    return 0


if __name__ == "__main__":
    sys.exit(main())
