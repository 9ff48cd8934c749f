"""Import and export in a real gallery: no bit of a float is lost, and a second export equals the first."""

import asyncio
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import Database
from service.database.session import tenant_session
from service.embedding import external_space
from service.errors import InvalidDataset
from service.gallery.galleries import Gallery, create_gallery, delete_gallery, gallery_counts
from service.gallery.people import create_person, find_person_named
from service.identity.datasets import importing
from service.identity.datasets.importing import ImportResult, load_dataset
from service.identity.datasets.writing import Format, export_dataset
from tests.support.jobs import dataset_of

FORMATS: list[Format] = ["dataset", "encoder", "ndjson"]


async def make_gallery(session: AsyncSession, name: str = "staff", dimension: int = 3) -> Gallery:
    """An empty gallery of external embeddings."""
    space = external_space(f"external:test:{dimension}")
    assert space is not None
    return await create_gallery(session, name, space)


async def load(session: AsyncSession, gallery: Gallery, content: bytes) -> ImportResult:
    async def silent(done: int, total: int | None) -> None:
        return None

    return await load_dataset(session, gallery, lambda: io.BytesIO(content), silent)


async def export(session: AsyncSession, gallery: Gallery, file_format: Format) -> bytes:
    return b"".join([chunk async for chunk in export_dataset(session, gallery, file_format)])


ROWS: list[dict[str, Any]] = [
    {"person": "Ada", "embedding": [0.1, -0.0, 5e-300]},
    {
        "person": "Bob / é 😀",
        "external_id": "7",
        "embedding": [1.0, 2.0, 3.0],
        "source": "a.jpg",
        "metadata": {"a": 10**30},
    },
    {"person": "Ada", "embedding": [1 / 3, 1e23, 2.5], "source": {"image": 0}},
    {"person": "Ada", "external_id": "another Ada", "embedding": [1.0, 1.0, 1.0], "source": {"img": None}},
    {"person": "Bob / é 😀", "external_id": "7", "embedding": [3.0, 2.0, 1.0], "source": 12},
    {"person": "Ada", "embedding": [0.25, 0.5, 0.75], "source": {"camera": 3}},
]
CONTENT = "\n".join(json.dumps(row) for row in ROWS).encode()


@pytest.mark.parametrize("file_format", FORMATS)
async def test_an_imported_export_is_exported_again_byte_for_byte(session: AsyncSession, file_format: Format) -> None:
    first, second = await make_gallery(session, "first"), await make_gallery(session, "second")
    assert await load(session, first, CONTENT) == ImportResult(3, 6, "ndjson")
    exported = await export(session, first, file_format)
    assert (await load(session, second, exported)).faces == 6
    assert await export(session, second, file_format) == exported


async def test_ndjson_keeps_everything(session: AsyncSession) -> None:
    gallery = await make_gallery(session)
    await load(session, gallery, CONTENT)
    lines = (await export(session, gallery, "ndjson")).splitlines()
    expected = [dict(row) for row in ROWS]
    expected[4]["metadata"] = {"a": 10**30}  # a field of the person, so it is on every line
    assert [json.loads(line) for line in lines] == expected


async def test_the_format_dataset_has_labels_and_numbers_as_the_legacy_recognizer(session: AsyncSession) -> None:
    gallery = await make_gallery(session)
    await load(session, gallery, CONTENT)
    rows = json.loads(await export(session, gallery, "dataset"))
    assert [label for label, _ in rows] == [row["person"] for row in ROWS]
    assert [[float(number) for number in csv.split(",")] for _, csv in rows] == [row["embedding"] for row in ROWS]


async def test_the_format_encoder_names_each_person_once_and_each_image(session: AsyncSession) -> None:
    """JSON readers keep the last of equal keys, so people of one name share it; an unknown image is its index."""
    gallery = await make_gallery(session)
    await load(session, gallery, CONTENT)
    exported = await export(session, gallery, "encoder")
    pairs = json.loads(exported, object_pairs_hook=list)
    assert [label for label, _ in pairs] == ["Ada", "Bob / é 😀"]
    images = {
        label: [{key: entry[key] for key in entry if key != "embedding"} for entry in entries]
        for label, entries in json.loads(exported).items()
    }
    assert images == {
        "Ada": [{"img": 0}, {"image": 0}, {"img": None}, {"img": 3}],
        "Bob / é 😀": [{"img": "a.jpg"}, {"img": 12}],
    }


@pytest.mark.parametrize(("file_format", "nothing"), [("dataset", b"[]\n"), ("encoder", b"{}\n"), ("ndjson", b"")])
async def test_an_empty_gallery_is_an_empty_dataset(session: AsyncSession, file_format: Format, nothing: bytes) -> None:
    gallery = await make_gallery(session)
    await create_person(session, gallery, "without a face")
    assert await export(session, gallery, file_format) == nothing
    if nothing:
        assert (await load(session, gallery, nothing)).faces == 0


# larger numbers do not fit into float32, and numbers that it rounds to zero cannot be compared
comparable = st.floats(-3e38, 3e38).filter(lambda value: value == 0 or abs(value) > 1e-45)
vectors_of_floats = st.lists(comparable, min_size=3, max_size=3).filter(any)
# An import passes over a row that the person has already.
rows_of_floats = st.lists(vectors_of_floats, min_size=1, max_size=40, unique_by=tuple)


@given(rows=rows_of_floats)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_float_is_exported_exactly(database: Database, tenant_id: int, rows: list[list[float]]) -> None:
    async with tenant_session(database.engine, tenant_id) as session:
        gallery = await make_gallery(session)
        await load(session, gallery, dataset_of([("Ada", row) for row in rows]))
        for file_format in FORMATS:
            exported = await export(session, gallery, file_format)
            assert _numbers(exported, file_format).tobytes() == np.array(rows).tobytes()


def _numbers(exported: bytes, file_format: Format) -> np.ndarray:
    if file_format == "dataset":
        return np.array([[float(number) for number in csv.split(",")] for _, csv in json.loads(exported)])
    if file_format == "encoder":
        return np.array([entry["embedding"] for entry in json.loads(exported)["Ada"]])
    return np.array([json.loads(line)["embedding"] for line in exported.splitlines()])


async def test_a_file_of_many_batches_keeps_its_order(session: AsyncSession) -> None:
    values = np.random.default_rng(1).standard_normal((3 * importing.BATCH_ROWS + 7, 3))
    content = dataset_of([(f"person {number % 50}", row) for number, row in enumerate(values.tolist())])
    gallery = await make_gallery(session)
    assert await load(session, gallery, content) == ImportResult(50, len(values), "dataset")
    exported = await export(session, gallery, "dataset")
    assert _numbers(exported, "dataset").tobytes() == values.tobytes()
    assert [label for label, _ in json.loads(exported)] == [f"person {number % 50}" for number in range(len(values))]


async def test_imports_of_the_same_people_at_once_wait_for_each_other(
    session: AsyncSession, database: Database, tenant_id: int
) -> None:
    """Their batches name the same people in opposite order: if they ran side by side, each would wait for the other."""
    gallery = await make_gallery(session)
    await session.commit()
    rows = [(f"person {number}", [1.0, 2.0, float(number)]) for number in range(3 * importing.BATCH_ROWS)]

    async def load_alone(content: bytes) -> int:
        async with tenant_session(database.engine, tenant_id) as own:
            result = await load(own, gallery, content)
            await own.commit()
            return result.faces

    others = [(name, [number + 0.5 for number in values]) for name, values in rows]
    files = [dataset_of(rows), dataset_of(others[::-1])] * 2
    added = await asyncio.gather(*map(load_alone, files))
    assert sorted(added) == [0, 0, len(rows), len(rows)]  # the second load of each file adds nothing
    counts = await gallery_counts(session, gallery)
    assert (counts.people, counts.faces) == (len(rows), 2 * len(rows))


async def test_an_import_adds_references_to_existing_people(session: AsyncSession) -> None:
    gallery = await make_gallery(session)
    await create_person(session, gallery, "Ada")
    assert await load(session, gallery, b'[["Ada","1,2,3"],["Bob","1,2,3"]]') == ImportResult(1, 2, "dataset")
    assert await load(session, gallery, b'[["Ada","1,2,4"]]') == ImportResult(0, 1, "dataset")
    ada = await find_person_named(session, gallery, "Ada")
    assert ada is not None
    assert ada.faces == 2


@pytest.mark.parametrize("file_format", FORMATS)
async def test_a_file_that_is_loaded_again_adds_nothing_and_says_how_much_it_passed_over(
    session: AsyncSession, file_format: Format
) -> None:
    gallery = await make_gallery(session)
    await load(session, gallery, CONTENT)
    exported = await export(session, gallery, file_format)
    again = await make_gallery(session, "again")
    first, second = [await load(session, again, exported) for _ in range(2)]
    assert (first.faces, first.duplicates) == (6, 0)
    assert (second.people, second.faces, second.duplicates) == (0, 0, 6)
    assert await export(session, again, file_format) == exported


async def test_equal_numbers_are_passed_over_for_the_same_person_only(session: AsyncSession) -> None:
    gallery = await make_gallery(session)
    content = b'[["Ada","1,2,3"],["Bob","1,2,3"],["Ada","1.0,2.0,3.0"],["Ada","1,2,3.5"]]'
    assert await load(session, gallery, content) == ImportResult(2, 3, "dataset", 1)


async def test_a_wrong_last_row_leaves_nothing_of_the_file(session: AsyncSession) -> None:
    gallery = await make_gallery(session)
    rows = [(f"person {number}", [1.0, 2.0, 3.0]) for number in range(2 * importing.BATCH_ROWS)]
    written = dataset_of(rows)
    for wrong in (written[:-1] + b',["Bob","1,2"]]', written[:-20], written.replace(b'"person 1500"', b"null")):
        with pytest.raises(InvalidDataset):
            await load(session, gallery, wrong)
        counts = await gallery_counts(session, gallery)
        assert (counts.people, counts.faces) == (0, 0)


async def test_the_error_about_another_dimension_names_both_dimensions(session: AsyncSession) -> None:
    gallery = await make_gallery(session, dimension=4)
    with pytest.raises(InvalidDataset, match="row 1: 3 numbers, but external:test:4 has 4"):
        await load(session, gallery, b'[["Ada","1,2,3"]]')


async def test_progress_counts_rows_as_they_are_checked_and_then_as_they_are_written(session: AsyncSession) -> None:
    reported: list[tuple[int, int | None]] = []

    async def progress(done: int, total: int | None) -> None:
        reported.append((done, total))

    gallery = await make_gallery(session)
    size = importing.BATCH_ROWS
    content = dataset_of([("Ada", [1.0, 2.0, 3.0])] * (size + 5))
    await load_dataset(session, gallery, lambda: io.BytesIO(content), progress)
    assert reported == [(0, size), (0, size + 5), (size, size + 5), (size + 5, size + 5)]


async def test_an_export_ends_without_an_error_if_its_gallery_is_deleted(session: AsyncSession) -> None:
    gallery = await make_gallery(session)
    await load(session, gallery, CONTENT)
    await delete_gallery(session, gallery)
    assert await export(session, gallery, "encoder") == b"{}\n"
