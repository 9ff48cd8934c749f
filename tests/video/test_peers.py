"""WebRTC streams with a real peer: `/v1` and the legacy dialect, limits, and that a peer leaves nothing behind."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.database.connection import Database
from service.encoder.contract import Image
from service.encoder.fake_pictures import draw_people
from service.settings import Settings
from tests.conftest import new_tenant
from tests.support.encoders import LIMITS
from tests.support.server import MakeClient, ServerProcess, open_client
from tests.support.videos import Scene, av, draw_scene
from tests.support.waiting import GUARD_SECONDS, until
from tests.support.webrtc import CameraPeer

from service.video import peers as peers_module  # isort: skip - needs aiortc
from service.video.streams import Streams  # isort: skip

CameraOf = Callable[..., CameraPeer]


@pytest.fixture
async def camera() -> AsyncIterator[CameraOf]:
    """Makes peers, which are closed at the end."""
    made: list[CameraPeer] = []

    def make(*people: str) -> CameraPeer:
        made.append(CameraPeer(people))
        return made[-1]

    yield make
    for peer in made:
        await peer.close()


@pytest.fixture(autouse=True)
async def no_stream_is_left(application: FastAPI) -> AsyncIterator[None]:
    """Streams of one test do not count in the next."""
    yield
    await streams_of(application).close()


@pytest.fixture
async def staff(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a tenant whose gallery `staff` has Ada."""
    assert (await client.post("/v1/galleries", json={"name": "staff"})).status_code == 201
    image = {"image": ("ada.jpg", draw_people(["ada"], variation=3))}
    answer = await client.post("/v1/galleries/staff/faces", params={"person": "ada"}, files=image)
    assert answer.status_code == 201
    return client


async def open_stream(client: httpx.AsyncClient, peer: CameraPeer, gallery: str = "staff") -> httpx.Response:
    answer = await client.post(f"/v1/galleries/{gallery}/streams", json=await peer.offer())
    if answer.status_code == 201:
        await peer.accept(answer.json())
    return answer


async def until_no_stream(app: FastAPI) -> None:
    """Wait until no stream is counted, and no task of one is left."""

    async def is_over() -> bool:
        tasks = {task.get_name() for task in asyncio.all_tasks()}
        return len(streams_of(app)) == 0 and "video-peer" not in tasks

    await until(is_over)


def streams_of(app: FastAPI) -> Streams:
    streams: Streams = app.state.streams
    return streams


def has_green(image: Image) -> bool:
    """Whether a green box is drawn: H.264 and VP8 blur it, so the color is not exact."""
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    return int(((green - red > 80) & (green - blue > 60)).sum()) > 200


async def test_a_peer_gets_names_on_the_data_channel_and_boxes_on_the_track(
    application: FastAPI, staff: httpx.AsyncClient, camera: CameraOf
) -> None:
    peer = camera("ada", "zoe")
    answer = await open_stream(staff, peer)
    assert (answer.status_code, answer.json()["type"]) == (201, "answer")
    result = await peer.result_with_faces(2)
    while {face["person"] and face["person"]["name"] for face in result["faces"]} != {"ada", None}:
        result = await peer.result_with_faces(2)
    assert (result["width"], result["height"]) == (640, 360)
    async with asyncio.timeout(GUARD_SECONDS):
        while not has_green(await peer.returned_image()):
            pass
    await peer.close()
    await until_no_stream(application)


def test_a_frame_is_converted_once_for_all_threads() -> None:
    """Two threads that convert one frame of PyAV at a time crash the process."""
    frame = av.VideoFrame.from_ndarray(draw_scene(Scene(["ada"], 1), 0), format="rgb24")
    received = peers_module._Received(frame)
    with ThreadPoolExecutor(8) as threads:
        images = list(threads.map(lambda _: received.pixels(LIMITS), range(50)))
    assert all(image is images[0] for image in images)


async def test_the_answer_names_no_address_but_those_of_this_machine(
    staff: httpx.AsyncClient, camera: CameraOf
) -> None:
    answer = await open_stream(staff, camera("ada"))
    kinds = {line.split()[7] for line in answer.json()["sdp"].splitlines() if line.startswith("a=candidate")}
    assert kinds == {"host"}, "no STUN and no TURN server is asked"


async def test_a_peer_that_vanishes_leaves_nothing_behind(
    application: FastAPI, staff: httpx.AsyncClient, camera: CameraOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "SILENT_SECONDS", 1.0)
    peer = camera("ada")
    await open_stream(staff, peer)
    await peer.result_with_faces(1)
    await peer.vanish()
    await until_no_stream(application)


async def test_a_peer_that_never_connects_is_given_up(
    application: FastAPI, staff: httpx.AsyncClient, camera: CameraOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "CONNECT_SECONDS", 0.5)
    answer = await staff.post("/v1/galleries/staff/streams", json=await camera("ada").offer())
    assert answer.status_code == 201
    assert len(streams_of(application)) == 1
    await until_no_stream(application)


@pytest.fixture
def asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams ask for their permission all the time."""
    monkeypatch.setattr(peers_module, "PERMIT_SECONDS", 0.2)


@pytest.mark.usefixtures("asks_often")
async def test_a_stream_ends_if_its_key_is_revoked(
    application: FastAPI, staff: httpx.AsyncClient, make_client: MakeClient, tenant_id: int, camera: CameraOf
) -> None:
    other = await make_client(tenant_id, ["recognize"])
    peer = camera("ada")
    assert (await open_stream(other, peer)).status_code == 201
    await peer.result_with_faces(1)
    keys = (await staff.get("/v1/keys")).json()["items"]
    (key,) = [key["id"] for key in keys if key["scopes"] == ["recognize"]]
    assert (await staff.delete(f"/v1/keys/{key}")).status_code == 204
    result = await peer.result_with_faces(99)  # a result that is no frame
    assert result["error"]["slug"] == "unauthenticated"
    await until_no_stream(application)


async def test_the_tenant_and_the_process_have_limits(
    application: FastAPI, staff: httpx.AsyncClient, camera: CameraOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = streams_of(application)
    monkeypatch.setattr(streams, "_most_per_tenant", 1)
    assert (await open_stream(staff, camera("ada"))).status_code == 201
    refused = await open_stream(staff, camera("ada"))
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (429, "too-many-requests")
    assert int(refused.headers["Retry-After"]) > 0
    await streams.close()
    assert (await open_stream(staff, camera("ada"))).status_code == 201
    await streams.close()
    monkeypatch.setattr(streams, "_most", 0)
    assert (await open_stream(staff, camera("ada"))).status_code == 503


@pytest.mark.parametrize(
    "body",
    [
        {"sdp": "", "type": "offer"},
        {"sdp": "v=0\r\nno session", "type": "offer"},
        {"sdp": "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", "type": "offer"},
        {"sdp": "v=0", "type": "answer"},
        {"sdp": "v=0", "type": "rollback"},
        {"sdp": "v=0"},
    ],
)
async def test_a_wrong_offer_is_refused_and_leaves_no_stream(
    application: FastAPI, staff: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    answer = await staff.post("/v1/galleries/staff/streams", json=body)
    assert answer.status_code == 422, answer.text
    assert len(streams_of(application)) == 0


async def test_an_offer_without_video_is_refused(staff: httpx.AsyncClient, camera: CameraOf) -> None:
    peer = camera("ada")
    offer = await peer.offer()
    begin, _, _ = offer["sdp"].partition("m=video")
    answer = await staff.post("/v1/galleries/staff/streams", json=offer | {"sdp": begin})
    assert answer.status_code == 422
    assert "video" in answer.json()["detail"]


async def test_another_tenants_gallery_is_not_found(
    staff: httpx.AsyncClient, other_client: httpx.AsyncClient, camera: CameraOf
) -> None:
    assert (await open_stream(other_client, camera("ada"))).status_code == 404
    assert (await open_stream(staff, camera("ada"), "nowhere")).status_code == 404


@pytest.fixture
async def gnosis(settings: Settings, database: Database) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The legacy application and its caller, which sends no key."""
    tenant = f"legacy-{uuid.uuid4().hex[:12]}"
    await new_tenant(database, tenant)
    changes = {"legacy_api": "open", "legacy_tenant": tenant, "legacy_hosts": ["service"]}
    app = create_app(settings.model_copy(update=changes))
    async with app.router.lifespan_context(app), open_client(app) as client:
        yield app, client


async def test_the_legacy_streams_answer_with_boxes_and_labels(
    gnosis: tuple[FastAPI, httpx.AsyncClient], camera: CameraOf
) -> None:
    app, caller = gnosis
    files = [("files", ("1.jpg", draw_people(["ada"], variation=1)))]
    coded = await caller.post("/encoder/images", data={"key": "ada"}, files=files)
    for path, dataset in (("/detector/stream", None), ("/recognizer/stream", coded.content)):
        peer = camera("ada")
        offer = await peer.offer()
        form: dict[str, Any] = {"sdp": (None, offer["sdp"]), "sdp_type": (None, offer["type"])}
        answer = await caller.post(path, files=form | ({} if dataset is None else {"dataset": ("d.json", dataset)}))
        assert answer.status_code == 200, answer.text
        assert sorted(answer.json()) == ["sdp", "type"]
        await peer.accept(answer.json())
        result = await peer.result_with_faces(1)
        while dataset is not None and result["faces"][0]["person"] is None:
            result = await peer.result_with_faces(1)
        assert result["faces"][0]["person"] == (None if dataset is None else {"id": None, "name": "ada"})
        async with asyncio.timeout(GUARD_SECONDS):
            while not has_green(await peer.returned_image()):
                pass
        await peer.close()
        await until_no_stream(app)


@pytest.mark.parametrize("path", ["/detector/stream", "/recognizer/stream"])
async def test_a_wrong_legacy_offer_is_refused_in_the_format_of_the_dialect(
    gnosis: tuple[FastAPI, httpx.AsyncClient], path: str
) -> None:
    form: dict[str, Any] = {"sdp": (None, "v=0"), "sdp_type": (None, "offer"), "dataset": ("d.json", b"[]")}
    answer = await gnosis[1].post(path, files=form)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


async def test_a_running_server_serves_a_peer_and_stops(server: ServerProcess, camera: CameraOf) -> None:
    """Over the network, with a process of its own that ends although a peer is connected."""
    server.start()
    key = server.new_key()
    with server.client(key) as client:
        client.post("/v1/galleries", json={"name": "staff"})
        image = {"image": ("ada.jpg", draw_people(["ada"], variation=3))}
        client.post("/v1/galleries/staff/faces", params={"person": "ada"}, files=image)
        peer = camera("ada")
        answer = client.post("/v1/galleries/staff/streams", json=await peer.offer())
        await peer.accept(answer.json())
        result = await peer.result_with_faces(1)
        while result["faces"][0]["person"] is None:
            result = await peer.result_with_faces(1)
        assert result["faces"][0]["person"]["name"] == "ada"
    assert await asyncio.to_thread(server.stop) == 0, server.log[-6000:]
    assert "Traceback" not in server.log
