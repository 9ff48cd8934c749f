"""Health routes need no key and reveal nothing about tenants."""

import httpx

from service.encoder.fake_pictures import draw_people


async def test_healthz_and_readyz_report_the_state(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.get("/healthz")).json() == {"status": "alive"}
    ready = (await anonymous.get("/readyz")).json()
    assert (ready["status"], ready["database"]["schema_is_current"]) == ("ready", True)
    assert ready["database"]["pgvector"]
    assert ready["database"]["pgvector_is_safe"] is True
    (encoder,) = ready["encoders"]
    assert (encoder["name"], encoder["detector_device"], encoder["recognizer_device"]) == ("fake", "cpu", "cpu")


async def test_metrics_count_requests_by_route_and_contain_no_name(
    client: httpx.AsyncClient, anonymous: httpx.AsyncClient
) -> None:
    await client.post("/v1/galleries", json={"name": "a-secret-name"})
    await client.get("/v1/galleries/a-secret-name")
    metrics = (await anonymous.get("/metrics")).text
    assert 'face_identity_requests_total{method="GET",route="/v1/galleries/{gallery}",status="200"}' in metrics
    assert "a-secret-name" not in metrics


async def test_metrics_count_encoded_images_and_the_seconds_of_their_stages(
    client: httpx.AsyncClient, anonymous: httpx.AsyncClient
) -> None:
    async def metrics() -> dict[str, float]:
        lines = (await anonymous.get("/metrics")).text.splitlines()
        return {name: float(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}

    before = await metrics()
    assert (await client.post("/v1/encode", files={"image": ("a.jpg", draw_people(["Ada", "Bob"]))})).status_code == 200
    after = await metrics()
    grown = {name: value - before.get(name, 0) for name, value in after.items() if name.startswith("face_identity_")}
    assert grown["face_identity_images_encoded_total"] == 1
    assert grown["face_identity_faces_encoded_total"] == 2
    for stage in ("decode", "detect", "align", "embed"):
        assert grown[f'face_identity_image_stage_seconds_total{{stage="{stage}"}}'] > 0
    assert (grown["face_identity_images_running"], grown["face_identity_images_waiting"]) == (0, 0)


async def test_the_documentation_is_served(anonymous: httpx.AsyncClient) -> None:
    page = await anonymous.get("/docs")
    assert page.status_code == 200
    assert "/v1/galleries/{gallery}/recognize" in page.text
    assert "<script" not in page.text  # people type keys on such pages
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "/v1/galleries" in (await anonymous.get("/openapi.json")).json()["paths"]


async def test_json_ends_with_a_line_feed(client: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    """Answers and problems alike, so that a shell's prompt begins on a new line."""
    for answer in (
        await anonymous.get("/healthz"),
        await anonymous.get("/openapi.json"),
        await anonymous.get("/v1/galleries"),
        await client.get("/v1/galleries"),
        await client.post("/v1/galleries", json={"name": "lines"}),
    ):
        assert answer.content[-2:] == b"}\n"
        assert answer.headers["content-length"] == str(len(answer.content))
        assert answer.json()
    assert (await client.delete("/v1/galleries/lines")).content == b""
