"""The page of examples/webcam, and the stream of docs/video.md, in a real browser with a photograph as its camera."""

import functools
import http.server
import importlib.util
import re
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
from tests.support.waiting import GUARD_SECONDS, wait_until

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
REACHABLE = ("--allow-loopback-in-peer-connection", "--disable-features=WebRtcHideLocalIpsWithMdns")
"""The server runs on the machine of the browser, and resolves no names of multicast DNS."""
STREAM = re.search(r"```js\n(.*?)```", (ROOT_FOLDER / "docs/video.md").read_text(), flags=re.DOTALL)


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
    arguments = [*QUIET, *REACHABLE, *seen, f"--use-file-for-fake-video-capture={camera}"]
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


def test_a_browser_streams_its_camera_and_gets_names_and_the_video_back(
    page: "Page", origin: str, service: tuple[ServerProcess, str]
) -> None:
    """The code is that of docs/video.md, which a page of the server itself would run."""
    pytest.importorskip("aiortc", reason="left out: the extra video is not installed")
    assert STREAM is not None
    server, key = service
    code = STREAM.group(1).replace('"/v1/', f'"{server.url}/v1/').replace("console.log(", "lines.push(")
    page.goto(origin)
    page.evaluate(
        f"""async ([key]) => {{
            const lines = window.lines = [];
            const video = document.createElement("video");
            video.muted = video.autoplay = true;
            {code}
            window.peer = peer;  // else it may be collected
        }}""",
        [key],
    )
    named = "name => lines.some(line => (line.faces || []).some(face => face.person && face.person.name === name))"
    wait_until(lambda: page.evaluate(named, NAME), lambda: str(page.evaluate("lines.slice(-3)")))
    decoded = "peer.getStats().then(stats => [...stats.values()].some(each => each.framesDecoded > 0))"
    wait_until(lambda: page.evaluate(decoded))
