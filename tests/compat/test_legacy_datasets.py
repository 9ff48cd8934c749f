"""Uploaded datasets: loaded once, then searched in SQL, separate for each tenant, deleted after their last use."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, func, select, update

from service.database.connection import Database
from service.database.names import canonical_name
from service.database.session import tenant_session
from service.encoder.fake_pictures import draw_people
from service.encoder.opening import open_encoders
from service.gallery import tables
from service.identity.uploaded_datasets import delete_expired_datasets
from service.settings import Settings
from service.worker import run_worker
from tests.compat.test_legacy_callers import Field, group_dataset, post
from tests.support.server import MakeClient
from tests.support.waiting import until

IMAGE = draw_people(["ada"], variation=5)


async def labels(client: httpx.AsyncClient, dataset: bytes, image: bytes = IMAGE) -> list[str]:
    answer = await post(client, "/recognizer/image", ("file", image, "a.jpg"), ("dataset", dataset, "d.json"))
    assert answer.status_code == 200, answer.text
    return [face["label"] for face in answer.json()["faces"]]


async def scratch_galleries(database: Database, tenant_id: int) -> list[Any]:
    async with tenant_session(database.engine, tenant_id) as session:
        return list(await session.execute(select(tables.gallery).order_by(tables.gallery.c.id)))


@pytest.fixture
async def dataset(client: httpx.AsyncClient) -> bytes:
    """Two people with two images each."""
    return await group_dataset(client, {"ada": 2, "bob": 2})


async def test_the_same_dataset_is_loaded_once(
    client: httpx.AsyncClient, database: Database, tenant_id: int, dataset: bytes
) -> None:
    assert [await labels(client, dataset) for _ in range(3)] == [["ada"]] * 3
    (gallery,) = await scratch_galleries(database, tenant_id)
    async with tenant_session(database.engine, tenant_id) as session:
        assert await session.scalar(select(func.count()).select_from(tables.face)) == 4
        # From now on the gallery answers: without ada's faces nobody is recognized.
        await session.execute(delete(tables.person).where(tables.person.c.name == "ada"))
        await session.commit()
    assert await labels(client, dataset) == ["Uknown"]
    assert [row.id for row in await scratch_galleries(database, tenant_id)] == [gallery.id]


async def test_a_changed_dataset_is_loaded_as_another_one(client: httpx.AsyncClient, dataset: bytes) -> None:
    assert await labels(client, dataset) == ["ada"]
    renamed = dataset.replace(b'"ada"', b'"Ada Lovelace"')
    assert await labels(client, renamed) == ["Ada Lovelace"]
    assert await labels(client, dataset) == ["ada"]


async def test_an_uploaded_dataset_is_not_listed_as_a_gallery(client: httpx.AsyncClient, dataset: bytes) -> None:
    await labels(client, dataset)
    assert (await client.get("/v1/galleries")).json()["items"] == []


async def test_tenants_do_not_share_an_uploaded_dataset(  # noqa: PLR0917 - fixtures
    client: httpx.AsyncClient,
    other_client: httpx.AsyncClient,
    database: Database,
    tenant_id: int,
    other_tenant_id: int,
    dataset: bytes,
) -> None:
    await labels(client, dataset)
    assert await scratch_galleries(database, other_tenant_id) == []
    assert await labels(other_client, dataset) == ["ada"]
    (own,), (other,) = await scratch_galleries(database, tenant_id), await scratch_galleries(database, other_tenant_id)
    assert (own.name, own.id) != (other.name, other.id)


async def test_concurrent_requests_load_a_dataset_once(
    client: httpx.AsyncClient, database: Database, tenant_id: int, dataset: bytes
) -> None:
    assert await asyncio.gather(*(labels(client, dataset) for _ in range(6))) == [["ada"]] * 6
    assert len(await scratch_galleries(database, tenant_id)) == 1


async def test_an_expired_dataset_is_loaded_again(
    client: httpx.AsyncClient, database: Database, tenant_id: int, dataset: bytes
) -> None:
    await labels(client, dataset)
    (before,) = await scratch_galleries(database, tenant_id)
    await expire(database, tenant_id)
    assert await labels(client, dataset) == ["ada"]
    (after,) = await scratch_galleries(database, tenant_id)
    assert after.id != before.id


async def test_expired_datasets_of_every_tenant_are_deleted(  # noqa: PLR0917 - fixtures
    client: httpx.AsyncClient,
    other_client: httpx.AsyncClient,
    database: Database,
    tenant_id: int,
    other_tenant_id: int,
    dataset: bytes,
) -> None:
    await labels(client, dataset)
    await labels(other_client, dataset)
    await expire(database, tenant_id)
    await delete_expired_datasets(database.engine)
    assert await scratch_galleries(database, tenant_id) == []
    assert len(await scratch_galleries(database, other_tenant_id)) == 1
    async with tenant_session(database.engine, tenant_id) as session:
        assert await session.scalar(select(func.count()).select_from(tables.face)) == 0


async def test_the_worker_deletes_expired_datasets(
    client: httpx.AsyncClient, database: Database, tenant_id: int, settings: Settings, dataset: bytes
) -> None:
    await labels(client, dataset)
    await expire(database, tenant_id)
    stop, encoders = asyncio.Event(), open_encoders(settings)
    working = asyncio.create_task(run_worker(database, encoders, stop))

    async def is_deleted() -> bool:
        return not await scratch_galleries(database, tenant_id)

    await until(is_deleted)
    stop.set()
    await working
    encoders.close()


async def expire(database: Database, tenant_id: int) -> None:
    async with tenant_session(database.engine, tenant_id) as session:
        await session.execute(update(tables.gallery).values(expires_at=func.now() - timedelta(seconds=1)))
        await session.commit()


async def test_the_label_with_the_most_references_wins_and_the_first_of_equals(client: httpx.AsyncClient) -> None:
    answer = await post(client, "/encoder/image", ("file", IMAGE, "a.jpg"))
    numbers = ",".join(map(str, answer.json()))
    opposite = ",".join(str(-number) for number in answer.json())
    rows = [["zoe", numbers], ["abe", numbers], ["eve", opposite], ["eve", opposite], ["eve", opposite]]
    assert await labels(client, json.dumps(rows).encode()) == ["zoe"]
    assert await labels(client, json.dumps([*rows, ["abe", numbers]]).encode()) == ["abe"]
    assert await labels(client, json.dumps([["eve", opposite]]).encode()) == ["Uknown"]


@pytest.mark.parametrize(
    ("dataset", "row"),
    [
        (b'[["ada", "0.1,0.2"]]', "row 1"),
        (b'[["ada", "%s"], ["", "%s"]]' % (b",".join([b"1"] * 512), b",".join([b"1"] * 512)), "row 2"),
        (b'[["ada", "%s"], ["bob"]]' % b",".join([b"1"] * 512), "row 2"),
        (b'[["ada", "%s"' % b",".join([b"1"] * 512), "row 1"),
        (b'[["ada", "%s"]]' % b",".join([b"NaN"] * 512), "row 1"),
        (b"text", "JSON"),
        (b"", "empty"),
        (b"[1.0, 2.0]", "label"),
        (b"null", "null"),
    ],
)
async def test_an_unreadable_dataset_is_refused_with_the_row_and_not_stored(
    client: httpx.AsyncClient, database: Database, tenant_id: int, dataset: bytes, row: str
) -> None:
    fields: list[Field] = [("file", IMAGE, "a.jpg"), ("dataset", dataset, "d.json")]
    answer = await post(client, "/recognizer/image", *fields)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert row in answer.json()["error"]
    assert await scratch_galleries(database, tenant_id) == []


async def test_an_empty_dataset_recognizes_nobody(client: httpx.AsyncClient) -> None:
    assert await labels(client, b"[]") == ["Uknown"]


async def test_a_gallery_can_be_named_instead_of_a_dataset(client: httpx.AsyncClient, dataset: bytes) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    person = (await client.post("/v1/galleries/staff/people", json={"name": "Ada"})).json()["id"]
    await client.post(f"/v1/galleries/staff/people/{person}/faces", files={"image": draw_people(["ada"])})
    image = ("file", draw_people(["ada", "bob"], variation=8), "a.jpg")
    answer = await post(client, "/recognizer/image", image, ("gallery", "staff", None))
    assert [face["label"] for face in answer.json()["faces"]] == ["Ada", "Uknown"]
    both: list[Field] = [("gallery", "staff", None), ("dataset", dataset, "d.json")]
    for fields in ([], both):
        answer = await post(client, "/recognizer/image", image, *fields)
        assert (answer.status_code, "`dataset` and `gallery`" in answer.json()["error"]) == (400, True)


async def test_a_gallery_must_exist_and_be_open_to_the_key(
    client: httpx.AsyncClient, make_client: Any, tenant_id: int, other_client: httpx.AsyncClient
) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    await client.post("/v1/galleries", json={"name": "elsewhere", "embedding_space": "external:arcface:512"})
    await client.post("/v1/galleries", json={"name": "door", "verification_only": True})
    limited = await make_client(tenant_id, None, ["other"])
    image = ("file", IMAGE, "a.jpg")
    for caller, name, status in [
        (client, "nowhere", 400),
        (client, "staff\0", 400),
        (client, "elsewhere", 400),
        (client, "door", 403),
        (limited, "staff", 400),
        (other_client, "staff", 400),
    ]:
        answer = await post(caller, "/recognizer/image", image, ("gallery", name, None))
        assert (answer.status_code, list(answer.json())) == (status, ["error"]), name


async def test_a_dataset_of_another_encoder_is_refused_with_both_dimensions(client: httpx.AsyncClient) -> None:
    fields: list[Field] = [("file", IMAGE, "a.jpg"), ("dataset", b'[["ada", "0.1,0.2,0.3"]]', "d.json")]
    answer = await post(client, "/recognizer/image", *fields)
    assert answer.status_code == 400
    assert "3 numbers, but fake has 512" in answer.json()["error"]


@pytest.mark.parametrize("key", ["", " ", "\u3000", "a\tb", "a\0b", "x" * 501])
async def test_a_label_that_no_dataset_may_hold_is_refused_when_images_are_encoded(
    client: httpx.AsyncClient, key: str
) -> None:
    answer = await post(client, "/encoder/images", ("files", IMAGE, "a.jpg"), ("key", key, None))
    assert (answer.status_code, "key: " in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("key", ["Ada", "Jose\u0301 ", "a" * 500])
async def test_what_the_encoder_answers_is_a_dataset_that_the_recognizer_takes(
    client: httpx.AsyncClient, key: str
) -> None:
    """The answer has the key as it was sent, because callers look it up; the recognizer answers the canonical form."""
    coded = await post(client, "/encoder/images", ("files", IMAGE, "a.jpg"), ("key", key, None))
    assert list(coded.json()) == [key]
    assert await labels(client, coded.content) == [canonical_name(key)]


async def test_labels_that_look_equal_vote_together(client: httpx.AsyncClient) -> None:
    numbers = ",".join(map(str, (await post(client, "/encoder/image", ("file", IMAGE, "a.jpg"))).json()))
    rows = [["Zoe", numbers], ["Jose\u0301", numbers], ["Jos\u00e9 ", numbers]]
    assert await labels(client, json.dumps(rows).encode()) == ["Jos\u00e9"]


@pytest.mark.parametrize(
    ("key", "says"), [((["recognize"], None), "enroll"), ((["recognize", "enroll"], ["door"]), "galleries")]
)
async def test_a_key_that_must_not_store_people_cannot_bring_a_dataset(
    key: tuple[list[str], list[str] | None], says: str, make_client: MakeClient, tenant_id: int, database: Database
) -> None:
    client = await make_client(tenant_id, *key)
    fields: list[Field] = [("file", draw_people(["ada"]), "a.jpg"), ("dataset", b'[["Ada", "1,2"]]', "d.json")]
    answer = await post(client, "/recognizer/image", *fields)
    assert (answer.status_code, says in answer.json()["error"]) == (403, True)
    assert await scratch_galleries(database, tenant_id) == []
