"""Templates follow the references: every reference is always close to a template."""

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.gallery import templates
from service.gallery.bulk_writing import ReferenceRow, add_references
from service.gallery.codes import template_codes
from service.gallery.faces import NewFace, add_faces, delete_face
from service.gallery.galleries import create_gallery, find_gallery
from service.gallery.people import create_person, delete_person
from service.gallery.templates import CLOSE, templates_of
from tests.support.galleries import Matrix, crowd_of, space_of, unit


def clusters(sizes: list[int], closeness: float = 0.85, seed: int = 0) -> Matrix:
    """References about several unrelated centers, at unit length."""
    parts = [crowd_of(1, size, seed=seed + number, closeness=closeness).embeddings for number, size in enumerate(sizes)]
    return unit(np.concatenate(parts))


@pytest.mark.parametrize("sizes", [[1], [5], [3, 1], [10, 5, 1], [1] * 20, [300, 1, 1], [1] * 200])
def test_every_reference_is_close_to_a_template(sizes: list[int]) -> None:
    references = clusters(sizes)
    found = templates_of(references)
    assert (references @ found.T).max(axis=1).min() >= CLOSE - 1e-6
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("sizes", [[1], [20], [3, 1], [7, 7, 7]])
def test_there_are_no_more_templates_than_clusters(sizes: list[int]) -> None:
    assert len(templates_of(clusters(sizes))) == len(sizes)


@pytest.mark.parametrize("seed", [3, 16])
def test_related_clusters_get_a_template_each(seed: int) -> None:
    """A single round of k-means leaves four or five means here, and two rounds leave four."""
    random = np.random.default_rng(seed)
    base = unit(random.standard_normal(512))
    centers = unit(np.sqrt(0.5) * base + np.sqrt(0.5) * unit(random.standard_normal((3, 512))))
    around = centers[random.integers(0, 3, 10)]
    references = unit(0.85 * around + np.sqrt(1 - 0.85**2) * unit(random.standard_normal((10, 512))))
    assert len(templates_of(references)) == 3


def test_references_that_cancel_out_have_templates() -> None:
    one = clusters([1])
    assert len(templates_of(np.concatenate([one, -one]))) == 2


async def test_stored_templates_follow_adding_and_deleting(session: AsyncSession) -> None:
    gallery = await create_gallery(session, "staff", space_of())
    person = await create_person(session, gallery, "Ada")
    references = clusters([3, 1])
    faces = await add_faces(session, gallery, person, [NewFace(values) for values in references])
    assert await stored(session) == codes(templates_of(references))
    assert (await find_gallery(session, "staff")).templates == 2
    await delete_face(session, gallery, person, faces[3].id)
    assert await stored(session) == codes(templates_of(references[:3]))
    assert (await find_gallery(session, "staff")).templates == 1
    await delete_person(session, gallery, person.id)
    assert await stored(session) == set()
    found = await find_gallery(session, "staff")
    assert (found.people, found.faces, found.templates) == (0, 0, 0)


async def test_templates_of_a_person_are_made_from_old_and_new_references(session: AsyncSession) -> None:
    gallery = await create_gallery(session, "staff", space_of())
    person = await create_person(session, gallery, "Ada")
    references = clusters([4, 1])
    for values in references:
        await add_faces(session, gallery, person, [NewFace(values)])
    await add_references(session, gallery, [ReferenceRow("Ada", None, values) for values in references[:2]])
    assert await stored(session) == codes(templates_of(np.concatenate([references, references[:2]])))
    assert (await find_gallery(session, "staff")).templates == 2


def codes(means: Matrix) -> set[str]:
    return {"".join(f"{byte:08b}" for byte in code) for code in template_codes(means)}


async def stored(session: AsyncSession) -> set[str]:
    return {str(code) for code in await session.scalars(text("SELECT code::text FROM person_template"))}


async def test_means_of_one_code_are_one_template(session: AsyncSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "templates_of", lambda rows: np.concatenate([rows, rows]))
    gallery = await create_gallery(session, "staff", space_of())
    person = await create_person(session, gallery, "Ada")
    reference = clusters([1])
    await add_faces(session, gallery, person, [NewFace(reference[0])])
    assert await stored(session) == codes(reference)
    assert (await find_gallery(session, "staff")).templates == 1
