"""Runs every line of the README as written, with the default encoder and a real server.

`make` is left out, because it would install the packages again; the tests run the commands behind it.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.cli.demo_pictures import demo_pictures
from tests.cli.test_command_line import PROGRAM
from tests.support.folders import opened
from tests.support.server import ServerProcess
from tests.support.waiting import GUARD_SECONDS

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
FRONT_DOORS, COMMANDS, KEY_AND_SERVER, REQUESTS = BLOCKS
PROGRAMS = str(Path(PROGRAM).parent)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """An empty folder and data folder, with the default encoder."""
    process = ServerProcess(opened(tmp_path_factory.mktemp("newcomer")), ENCODER="")
    process.environment["PATH"] = f"{PROGRAMS}{os.pathsep}{process.environment['PATH']}"
    yield process
    process.close()


def run(newcomer: ServerProcess, script: str) -> list[str]:
    """Return the output of each line of the script. The first line that fails ends it."""
    lines = re.sub(r"(?m)^(?=\S)(?!#|field|END|export|KEY|URL|AUTH|JSON)", "echo @@@\n", script)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines],
        check=False,
        cwd=newcomer.folder,
        env=newcomer.environment,
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [printed.strip() for printed in done.stdout.split("@@@")[1:]]


def test_every_make_target_of_the_page_exists() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", FRONT_DOORS + COMMANDS):
        assert re.search(rf"^{target}:.*##", makefile, flags=re.MULTILINE), target


def test_the_five_minutes_with_the_command_line(newcomer: ServerProcess) -> None:
    script = COMMANDS.replace("make install\n", "").replace('export PATH="$PWD/.venv/bin:$PATH"\n', "")
    demo, enrolled, recognized, people = run(newcomer, script)
    assert "38 of 38 faces recognized correctly" in demo
    assert "tenants delete demo --yes" in demo
    with Image.open(newcomer.folder / "demo-output/recognized.jpg") as annotated:
        assert annotated.size == demo_pictures(Path("nowhere")).group.size
    for name in ("Player 1", "Player 2", "Player 4", "Player 5", "Player 6", "Eileen Collins"):
        assert name in enrolled
        assert name in people
    assert [f"Player {number}" in recognized for number in (1, 2, 4, 5, 6)] == [True] * 5
    assert recognized.count("no match") == 1
    assert (newcomer.folder / "who.jpg").read_bytes()[:2] == b"\xff\xd8"


@pytest.fixture(scope="module")
def enrolled(newcomer: ServerProcess) -> ServerProcess:
    """The newcomer after the first five minutes, whichever test runs first."""
    newcomer.command("demo")
    newcomer.command("enroll", "demo-output/people", "--gallery", "staff")
    return newcomer


def test_the_five_minutes_over_http(enrolled: ServerProcess) -> None:
    create, serve = KEY_AND_SERVER.splitlines()
    assert serve == "face-identity serve"
    key = json.loads(enrolled.command(*create.split()[1:], "--json"))["key"]
    enrolled.start()
    script = REQUESTS.replace("fik_...", key).replace("http://127.0.0.1:8000", enrolled.url)
    printed = run(enrolled, script)
    check_answers([json.loads(text) if text[:1] in "[{" else text for text in printed if text])


def check_answers(answers: list[Any]) -> None:
    """Check every answer against the documented contract."""
    recognized, enrolled, verified, old, job, probe, exported = answers
    names = {face["match"]["person"]["name"] for face in recognized["faces"] if face["match"]}
    assert names == {f"Player {number}" for number in (1, 2, 4, 5, 6)}
    assert (len(enrolled["faces"]), enrolled["rejected"], enrolled["warnings"]) == (1, [], [])
    assert verified["verified"] is True
    assert old["embedding_space"] == "external:arcface:3"
    assert (job["status"], job["result"]["people"], job["result"]["faces"]) == ("succeeded", 2, 3)
    assert probe["faces"][0]["match"]["person"]["name"] == "person1"
    assert exported == [
        ["person1", "0.2681454,0.9309953,-0.1178"],
        ["person1", "0.25,0.91,-0.1"],
        ["person2", "-0.4,0.02,0.83"],
    ]


def test_every_linked_file_exists() -> None:
    root = Path(__file__).parents[2]
    for page in [root / "README.md", *(root / "docs").rglob("*.md")]:
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        assert [link for link in links if not (page.parent / link).exists()] == [], page
