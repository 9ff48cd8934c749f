"""Every file of examples/ does what it says, against a server with the fake encoder."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.encoder.fake_pictures import draw_nobody, draw_people
from tests.support.server import ServerProcess
from tests.support.waiting import GUARD_SECONDS

EXAMPLES = Path(__file__).parents[2] / "examples"
PEOPLE = ("ada", "grace")
PAGE_ORIGIN = "http://127.0.0.1:9001"


def run_python(*arguments: str, folder: Path, **environment: str) -> str:
    """Return what a program prints. It finds this package, and starts in `folder`."""
    variables = os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "FACE_IDENTITY_ENCODER": "fake"} | environment
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def demo_output(tmp_path: Path) -> Path:
    """Images of two people and a group, in the folders that the demo writes."""
    for number, name in enumerate(PEOPLE):
        (tmp_path / "demo-output/people" / name).mkdir(parents=True)
        (tmp_path / "demo-output/people" / name / "1.jpg").write_bytes(draw_people([name], variation=number))
    (tmp_path / "demo-output/group.jpg").write_bytes(draw_people(["ada", "stranger", "grace"], variation=5))
    return tmp_path / "demo-output"


@pytest.fixture
def key(server: ServerProcess) -> str:
    """A key that may only recognize in the gallery `staff`, where ada and grace are enrolled; the server runs."""
    server.environment["ALLOWED_ORIGINS"] = PAGE_ORIGIN
    owner = server.new_key()
    server.start()
    with server.client(owner) as client:
        client.post("/v1/galleries", json={"name": "staff"})
        for name in PEOPLE:
            person = client.post("/v1/galleries/staff/people", json={"name": name}).json()["id"]
            files = {"image": draw_people([name])}
            assert client.post(f"/v1/galleries/staff/people/{person}/faces", files=files).status_code == 201
        narrow = {"name": "door", "scopes": ["recognize"], "galleries": ["staff"]}
        return str(client.post("/v1/keys", json=narrow).json()["key"])


def test_the_door_opens_once_for_a_person_who_is_seen_in_two_frames(
    server: ServerProcess, key: str, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    seen = [["stranger"], ["grace"], ["stranger"], ["ada"], ["ada", "grace"], ["ada"], ["ada"]]
    for number, names in enumerate(seen):
        (frames / f"{number}.jpg").write_bytes(draw_people(names, variation=number))
    (frames / "7.jpg").write_bytes(draw_nobody())
    (frames / "8.jpg").write_bytes(b"the camera was interrupted")
    command = [str(EXAMPLES / "door.py"), "--url", server.url, "--gallery", "staff", "--folder", "frames", "--once"]
    printed = run_python(*command, folder=tmp_path, FACE_IDENTITY_KEY=key)
    assert printed.splitlines() == ["open the door for ada"]


def test_the_door_opens_again_for_the_same_person_after_a_pause() -> None:
    example = runpy.run_path(str(EXAMPLES / "door.py"))
    opened: list[str] = []
    readings = iter(range(0, 1000, 1))
    door = example["Door"](opened.append, clock=lambda: float(next(readings)))
    while len(opened) < 3:
        door.see({"1": "ada"})
    assert opened == ["ada"] * 3
    assert next(readings) > 2 * example["PAUSE_SECONDS"]


async def test_the_check_in_application_names_the_people_of_an_image(
    demo_output: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (demo_output / "people/ada/2.jpg").write_bytes(draw_nobody())
    monkeypatch.setenv("PEOPLE", str(demo_output / "people"))
    monkeypatch.setenv("FACE_IDENTITY_ENCODER", "fake")
    app = runpy.run_path(str(EXAMPLES / "check_in.py"))["app"]
    headers = {"Content-Type": "image/jpeg"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://check-in") as client,
    ):
        group = (demo_output / "group.jpg").read_bytes()
        answer = await client.post("/check-in", content=group, headers=headers)
        broken = await client.post("/check-in", content=b"no image", headers=headers)
    assert sorted(face["name"] or "" for face in answer.json()) == ["", *PEOPLE]
    assert broken.status_code == 422
    assert [record.message.partition(":")[0] for record in caplog.records if record.name == "check_in"] == [
        "ada, picture 1"
    ]


def test_the_page_with_a_webcam_draws_the_names_that_the_server_answers(
    server: ServerProcess, key: str, demo_output: Path
) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("left out: the script of the page runs in Node.js, which is not installed")
    connection = {"server": f"{server.url}/", "gallery": "staff", "key": key}
    program = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ labelOf, recognize, summaryOf }} from {json.dumps((EXAMPLES / "webcam/recognize.js").as_uri())};
        const connection = {json.dumps(connection)};
        const image = new Blob([readFileSync({json.dumps(str(demo_output / "group.jpg"))})]);
        const faces = await recognize(connection, image);
        const refused = await recognize({{ ...connection, key: "wrong" }}, image).catch((error) => error.message);
        console.log(JSON.stringify({{ labels: faces.map(labelOf), refused, empty: summaryOf([]) }}));
    """
    done = subprocess.run(
        [node, "--input-type=module"], input=program, check=False, capture_output=True, text=True, timeout=GUARD_SECONDS
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    left_to_right = sorted(shown["labels"], key=lambda label: float(label["left"]))
    assert [label["text"].split()[0] for label in left_to_right] == ["ada", "unknown", "grace"]
    assert all(label["width"] > 100 for label in left_to_right)
    assert "key" in shown["refused"]
    assert shown["empty"] == "nobody"


def test_the_server_answers_the_origin_of_the_page_and_no_other(server: ServerProcess, key: str) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    with server.client() as client:
        for origin, answered in ((PAGE_ORIGIN, PAGE_ORIGIN), ("http://elsewhere", None)):
            preflight = client.options("/v1/galleries/staff/recognize", headers={"Origin": origin, **asked})
            assert preflight.headers.get("access-control-allow-origin") == answered


def test_the_page_loads_nothing_from_other_servers() -> None:
    for path in (EXAMPLES / "webcam").iterdir():
        addresses = re.findall(r"""(?:https?:)?//[\w.:-]+""", re.sub(r"(?m)^\s*//.*|<!--.*?-->", "", path.read_text()))
        assert set(addresses) <= {"http://127.0.0.1:8000"}, path.name


def cells(kind: str) -> Iterator[str]:
    """The cells of one kind in the notebook."""
    notebook = json.loads((EXAMPLES / "faces.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    yield from ("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind)


def test_the_cells_of_the_notebook_run_one_after_another(demo_output: Path) -> None:
    checks = "assert sorted(one.name or '' for one in recognized) == ['', 'ada', 'grace']\nprint(picture.size)"
    printed = run_python("-c", "\n".join([*cells("code"), checks]), folder=demo_output.parent)
    assert printed.count("Box(") == 3
    assert printed.splitlines()[-1].startswith("(")


def test_the_notebook_holds_no_output() -> None:
    notebook = json.loads((EXAMPLES / "faces.ipynb").read_text())
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")


def test_the_page_of_the_examples_names_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text()
    names = {path.name for path in EXAMPLES.iterdir() if path.name != "README.md" and not path.name.startswith("__")}
    assert {name for name in names if f"({name}" not in text} == set()
