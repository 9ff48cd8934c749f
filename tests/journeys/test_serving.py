"""The server as a process: it starts in an empty folder, answers, and stops cleanly."""

import socket
import subprocess
import threading

import httpx

from service.encoder.fake_pictures import draw_people
from tests.support.server import PROGRAM, ServerProcess
from tests.support.waiting import GUARD_SECONDS, wait_until

README_DATASET = b'[["person1", "0.2681454,0.9309953,0.1"], ["person1", "0.25,0.9,0.12"], ["person2", "-0.5,0.1,0.7"]]'


def test_a_tenant_enrolls_recognizes_imports_exports_and_erases(server: ServerProcess) -> None:
    key = server.new_key()
    server.start()
    with server.client(key) as client:
        assert client.post("/v1/galleries", json={"name": "staff"}).status_code == 201
        person = client.post("/v1/galleries/staff/people", json={"name": "Ada"}).json()["id"]
        ada_path = f"/v1/galleries/staff/people/{person}"
        ada = {"image": ("ada.jpg", draw_people(["Ada"]))}
        assert len(client.post(f"{ada_path}/faces", files=ada).json()["faces"]) == 1
        recognized = client.post("/v1/galleries/staff/recognize", files=ada).json()
        assert recognized["faces"][0]["match"]["person"]["id"] == person
        assert client.post(f"{ada_path}/verify", files=ada).json()["verified"] is True

        client.post("/v1/galleries", json={"name": "legacy", "embedding_space": "external:legacy:3"})
        path = f"/v1/jobs/{client.post('/v1/galleries/legacy/import', content=README_DATASET).json()['job']}"
        wait_until(lambda: client.get(path).json()["status"] not in {"queued", "running"})
        job = client.get(path).json()
        assert (job["status"], job["result"]["people"], job["result"]["faces"]) == ("succeeded", 2, 3)
        exported = client.get("/v1/galleries/legacy/export").content
        assert b"0.2681454,0.9309953,0.1" in exported

        assert client.delete(ada_path).status_code == 204
        assert client.post("/v1/galleries/staff/recognize", files=ada).json()["faces"][0]["match"] is None
    assert server.stop() == 0
    server.start()
    with server.client(key) as client:
        assert client.get("/v1/galleries/legacy/export").content == exported


def test_several_processes_share_a_port_and_metrics_and_end_together(server: ServerProcess) -> None:
    server.environment["SERVER_WORKERS"] = "2"
    key = server.new_key()
    server.start()
    with server.client(key) as client:
        client.post("/v1/galleries", json={"name": "staff"})
    for _ in range(20):
        with server.client(key) as client:  # a new connection each, so that both processes answer
            assert client.get("/v1/galleries/staff").status_code == 200
    with server.client() as client:
        counted = 'face_identity_requests_total{method="GET",route="/v1/galleries/{gallery}",status="200"} 20.0'
        assert counted in client.get("/metrics").text
        assert "face_identity_images_running 0.0" in client.get("/metrics").text
    server.kill()
    wait_until(lambda: not answers(server), lambda: server.log)
    server.start()
    assert server.stop() == 0


def answers(server: ServerProcess) -> bool:
    """Whether a process answers on the server's port."""
    try:
        return httpx.get(f"{server.url}/healthz", timeout=GUARD_SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def test_a_stopping_server_finishes_a_request_in_progress(server: ServerProcess) -> None:
    key = server.new_key()
    server.start()
    body = b'{"name": "late"}'
    head = (
        f"POST /v1/galleries HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode())
        assert b" 100 Continue" in connection.recv(65536)  # the route reads the body: the request is in progress
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        wait_until(lambda: not is_listening(server.port))  # the server is stopping
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 201")
        stopping.join()


def is_listening(port: int) -> bool:
    """Whether the port accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_taken_port_is_reported_without_a_traceback(server: ServerProcess) -> None:
    with socket.create_server(("127.0.0.1", server.port)):
        done = subprocess.run(
            [*PROGRAM, "serve", "--port", str(server.port)],
            check=False,
            env=server.environment,
            cwd=server.folder,
            capture_output=True,
            text=True,
        )
    assert done.returncode != 0
    assert f"127.0.0.1:{server.port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_encoder_is_reported_by_one_process_and_by_several(server: ServerProcess) -> None:
    for workers in ("1", "2"):
        done = subprocess.run(
            [*PROGRAM, "serve", "--port", str(server.port)],
            check=False,
            env=server.environment | {"ENCODER": "no-such-encoder", "SERVER_WORKERS": workers},
            cwd=server.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0
        assert "no-such-encoder" in done.stderr
        assert "Traceback" not in done.stderr
