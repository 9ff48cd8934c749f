"""The page of examples/webcam in a real browser, with a photograph in place of the camera."""

import functools
import http.server
import importlib.util
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import cv2
import pytest

from tests.support.encoders import portrait
from tests.support.folders import OpenFolder
from tests.support.server import ROOT_FOLDER, ServerProcess
from tests.support.waiting import GUARD_SECONDS

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAME = "Eileen Collins"
QUIET = (
    "--no-sandbox",  # its sandbox does not work as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """A video whose frames are the photograph of Eileen Collins. Chromium reads JPEG files one after another."""
    _, picture = cv2.imencode(".jpg", portrait()[:, :, ::-1])
    (tmp_path / "camera.mjpeg").write_bytes(picture.tobytes() * 2)
    return tmp_path / "camera.mjpeg"


@pytest.fixture
def page(camera: Path) -> Iterator["Page"]:
    """A page of a browser that sees the photograph."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("left out: no Chromium is installed")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("left out: the package playwright is not installed")
    from playwright.sync_api import sync_playwright

    seen = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    arguments = [*QUIET, *seen, f"--use-file-for-fake-video-capture={camera}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_page()
        page.set_default_timeout(GUARD_SECONDS * 1000)
        yield page
        browser.close()


@pytest.fixture
def origin() -> Iterator[str]:
    """The address of a server with the files of the page."""
    folder = ROOT_FOLDER / "examples/webcam"
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def service(origin: str, camera: Path) -> Iterator[tuple[ServerProcess, str]]:
    """A running server with dlib that knows Eileen Collins, and a key that may only recognize."""
    with OpenFolder() as folder:
        process = ServerProcess(Path(folder), ENCODER="dlib", ALLOWED_ORIGINS=origin)
        owner = process.new_key()
        process.start()
        image = {"image": (ROOT_FOLDER / "service/cli/data/eileen-collins.png").read_bytes()}
        narrow = {"name": "page", "scopes": ["recognize"], "galleries": ["staff"]}
        with process.client(owner) as client:
            client.post("/v1/galleries", json={"name": "staff"})
            assert client.post(f"/v1/galleries/staff/faces?person={NAME}", files=image).status_code == 201
            key = str(client.post("/v1/keys", json=narrow).json()["key"])
        yield process, key
        process.close()


def start(page: "Page", origin: str, server: str, key: str) -> None:
    """Fill the form in and start."""
    page.goto(origin)
    page.fill("input[name=server]", server)
    page.fill("input[name=key]", key)
    page.click("button")


def test_the_page_names_the_person_in_front_of_the_camera(
    page: "Page", origin: str, service: tuple[ServerProcess, str]
) -> None:
    server, key = service
    asked: set[str | None] = set()
    page.on("request", lambda request: asked.add(urlsplit(request.url).hostname))
    start(page, origin, server.url, key)
    page.locator("#state", has_text=NAME).wait_for()
    name, _, similarity = str(page.text_content("#state")).rpartition(" ")
    assert name == NAME
    assert float(similarity) > 0.6
    boxes = "document.querySelector('#boxes').getContext('2d').getImageData(0, 0, 800, 800).data"
    assert page.evaluate(f"{boxes}.some((value) => value > 0)")
    assert asked == {"127.0.0.1"}


def test_the_page_says_why_the_server_refuses_it(page: "Page", origin: str, service: tuple[ServerProcess, str]) -> None:
    start(page, origin, service[0].url, "wrong")
    page.locator("#state", has_text="not an API key").wait_for()
    assert page.is_enabled("button")
