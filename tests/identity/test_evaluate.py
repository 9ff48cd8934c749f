"""Evaluation of an encoder on a folder of people."""

from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from service.database.connection import Database
from service.embedding import external_space
from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_nobody, draw_people
from service.encoder.opening import open_encoders
from service.errors import EmbeddingSpaceMismatch, InvalidRequest, NotFound
from service.identity import evaluate as evaluation
from service.identity.evaluate import evaluate
from service.identity.people_folders import find_portraits, natural_key
from service.settings import Settings
from tests.support.data import data_path
from tests.support.packs import save_photographs


def write(folder: Path, person: str, **images: bytes) -> None:
    """Write images of a person: `p1=...` becomes p1.jpg."""
    (folder / person).mkdir(parents=True, exist_ok=True)
    for name, data in images.items():
        (folder / person / f"{name}.jpg").write_bytes(data)


def tenants(database: Database) -> int:
    engine = create_engine(database.logins.administrator)
    with engine.connect() as connection:
        count = connection.scalar(text("SELECT count(*) FROM tenant WHERE name LIKE 'evaluation-%'"))
    engine.dispose()
    return int(count or 0)


def portrait(name: str, variation: int = 0) -> bytes:
    return draw_people([name], variation=variation)


async def test_the_report_names_mistakes_and_failures(database: Database, encoders: Encoders, tmp_path: Path) -> None:
    write(tmp_path, "Ada", p1=portrait("Ada"), p2=portrait("Ada", 1), p10=portrait("Bob", 1))
    write(tmp_path, "Bob", p1=portrait("Bob"), p2=portrait("Bob", 2), p3=draw_nobody())
    write(tmp_path, "Twin", p1=portrait("Ada", 3))
    write(tmp_path, "Nobody", p1=draw_nobody(), p2=b"this is a text")
    (tmp_path / "Ada" / "notes.txt").write_text("not an image")
    (tmp_path / "empty").mkdir()
    progress: list[tuple[int, int]] = []
    report = await evaluate(
        database, encoders, tmp_path, encoders.default, progress=lambda done, total: progress.append((done, total))
    )
    assert progress == [(done, 9) for done in range(1, 10)]
    assert (report.people, report.probes, report.strangers) == (3, 3, 3)
    assert report.threshold == encoders.default.threshold
    written = asdict(report)
    assert written["failed_to_enroll"] == [
        {"image": "Bob/p3.jpg", "reason": "no-face-found"},
        {"image": "Nobody/p1.jpg", "reason": "no-face-found"},
        {"image": "Nobody/p2.jpg", "reason": "unsupported-image-format"},
    ]
    assert [(mistake.image, mistake.person, mistake.candidate) for mistake in report.missed] == [
        ("Ada/p10.jpg", "Ada", "Bob")
    ]
    assert report.rank1_rate == pytest.approx(2 / 3)
    assert report.fnir == pytest.approx(1 / 3)
    assert report.fpir == pytest.approx(2 / 3)
    assert [(mistake.image, mistake.candidate) for mistake in report.false_accepts] == [
        ("Ada/p1.jpg", "Twin"),
        ("Twin/p1.jpg", "Ada"),
    ]


async def test_at_another_threshold_other_probes_are_missed(
    database: Database, encoders: Encoders, tmp_path: Path
) -> None:
    write(tmp_path, "Ada", p1=portrait("Ada"), p2=portrait("Ada", 1))
    report = await evaluate(database, encoders, tmp_path, encoders.default, threshold=1.0)
    assert (report.rank1_rate, report.fnir, report.fpir, report.threshold) == (1.0, 1.0, 0.0, 1.0)


async def test_there_are_no_rates_without_a_probe(database: Database, encoders: Encoders, tmp_path: Path) -> None:
    write(tmp_path, "Ada", p1=draw_nobody())
    report = await evaluate(database, encoders, tmp_path, encoders.default)
    assert (report.people, report.rank1_rate, report.fnir, report.fpir) == (0, None, None, None)


async def test_the_scratch_gallery_is_removed_after_success_and_failure(
    database: Database, encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise NotFound("the gallery is gone")

    write(tmp_path, "Ada", p1=portrait("Ada"), p2=portrait("Ada", 1))
    await evaluate(database, encoders, tmp_path, encoders.default)
    monkeypatch.setattr(evaluation, "find_gallery", fails)
    with pytest.raises(NotFound):
        await evaluate(database, encoders, tmp_path, encoders.default)
    assert tenants(database) == 0


async def test_a_folder_without_people_is_refused_by_name(
    database: Database, encoders: Encoders, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="holds no folder with images"):
        await evaluate(database, encoders, tmp_path, encoders.default)
    with pytest.raises(InvalidRequest, match="is not a folder"):
        await evaluate(database, encoders, tmp_path / "missing", encoders.default)
    with pytest.raises(EmbeddingSpaceMismatch):
        await evaluate(database, encoders, tmp_path, external_space("external:x:3") or encoders.default)


def test_people_and_images_are_in_natural_order(tmp_path: Path) -> None:
    write(tmp_path, "b", p10=b"", p9=b"", P1=b"")
    write(tmp_path, "a10")
    write(tmp_path, "a9", p1=b"")
    people = find_portraits(tmp_path).people
    assert list(people) == ["a9", "b"]
    assert [image.path.stem for image in people["b"]] == ["P1", "p9", "p10"]
    assert sorted(["10", "9", "a", "1a", "1", "01", "\u00b2"], key=natural_key) == [
        "01",
        "1",
        "1a",
        "9",
        "10",
        "a",
        "\u00b2",
    ]


async def test_a_pack_finds_every_probe_and_accepts_no_stranger(
    database: Database, settings: Settings, made_pack: Path, tmp_path: Path
) -> None:
    people = save_photographs(tmp_path, ["Ada", "Grace", "Mary"])
    opened = open_encoders(settings.model_copy(update={"encoder": [f"insightface:{made_pack}"]}))
    try:
        report = await evaluate(database, opened, people, opened.default)
    finally:
        opened.close()
    assert (report.people, report.probes, report.failed_to_enroll) == (3, 6, [])
    assert (report.rank1_rate, report.fnir, report.fpir) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("encoder", ["dlib", "insightface"])
async def test_real_encoders_find_every_probe_and_accept_no_stranger(
    database: Database, settings: Settings, encoder: str
) -> None:
    people = data_path("faces", "people")
    name = encoder if encoder == "dlib" else f"insightface:{data_path('models', 'scrfd2.5g-mobilefacenet128')}"
    opened = open_encoders(settings.model_copy(update={"encoder": [name]}))
    try:
        report = await evaluate(database, opened, people, opened.default)
    finally:
        opened.close()
    assert (report.people, report.probes, report.failed_to_enroll) == (6, 8, [])
    assert (report.rank1_rate, report.fnir, report.fpir) == (1.0, 0.0, 0.0)
