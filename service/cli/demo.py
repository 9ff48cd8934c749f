"""`face-identity demo`: enrolls people from photographs and recognizes them in other images.

It uses the normal database, in a tenant of its own. A second run replaces its gallery.
"""

import contextlib
import errno
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.context import CommandContext, asynchronous, open_migrated, read_settings
from service.cli.encoders import EncoderName, encoders_named
from service.cli.exits import ExitCode
from service.cli.output import Json, progress, remark
from service.cli.recognize import annotated_picture
from service.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from service.cli.demo_pictures import DemoPictures
    from service.cli.demo_report import Probe
    from service.encoder.encoders import Encoders
    from service.identity.recognize import Identification, IdentifiedFace
    from service.settings import Settings

NAME = "demo"
"""Name of the tenant and of its gallery."""

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder that the images are written to.")
]


@asynchronous
async def demo(*, output: Output = Path("demo-output"), encoder: EncoderName = None, as_json: Json = False) -> None:
    """Enroll and recognize people of some photographs.

    Uses the normal database, in a tenant of its own. Two photographs belong to the insightface package: if it is not
    installed, the demo downloads it once, without installing it. Exit code 1 if a result is wrong.
    """
    from service.access.quotas import quotas_of_new_tenants
    from service.access.tenants import find_or_create_tenant
    from service.cli.demo_pictures import ALTERATIONS, demo_pictures
    from service.cli.demo_report import DemoReport, tell

    started = time.monotonic()
    settings = _with_writable_folder(read_settings(), output)
    pictures = demo_pictures(settings.data_dir)
    with encoders_named(settings, encoder) as encoders, progress() as bar:
        async with open_migrated(settings) as database:
            tenant_id = await find_or_create_tenant(database.engine, NAME, quotas_of_new_tenants(settings))
            context = CommandContext(settings, database, tenant_id)
            stage = _Stage(context, encoders, pictures, output)
            task = bar.add_task("recognizing", total=len(pictures.seated) + len(pictures.portraits) * len(ALTERATIONS))
            await stage.enroll()
            probes = []
            async for probe in stage.probes():
                probes.append(probe)
                bar.advance(task)
    report = DemoReport(settings, encoders.default, pictures, probes, output, time.monotonic() - started)
    tell(report, as_json)
    if not report.is_right:
        raise typer.Exit(ExitCode.NO)


def _with_writable_folder(settings: "Settings", output: Path) -> "Settings":
    """The settings, with a data folder below `output` if the usual one cannot be used, as with a read-only home."""
    if "data_dir" in settings.model_fields_set or settings.database_url:
        return settings
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        if not os.access(settings.data_dir, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        own = (output / "data").resolve()
        remark(f"{settings.data_dir} cannot be used ({error.strerror}); the demo stores its data in {own}")
        return settings.model_copy(update={"data_dir": own})
    return settings


@dataclass(frozen=True)
class _Stage:
    """The open database, encoders and images that every step of the demo uses."""

    context: CommandContext
    encoders: "Encoders"
    pictures: "DemoPictures"
    output: Path

    async def enroll(self) -> None:
        """Replace the gallery of an earlier run and enroll one portrait of each person except the strangers."""
        from service.gallery.galleries import create_gallery, delete_gallery, find_gallery

        async with self.context.session() as session:
            with contextlib.suppress(NotFound):
                await delete_gallery(session, await find_gallery(session, NAME))
            await create_gallery(session, NAME, self.encoders.default)
            await session.commit()
        for name in self.pictures.enrolled:
            await self._enroll_one(name)

    async def _enroll_one(self, name: str) -> None:
        from service.cli.demo_pictures import file_name, jpeg
        from service.gallery.galleries import find_gallery
        from service.gallery.people import create_person
        from service.identity.enroll import EnrollmentImage, enroll_pictures

        portrait = EnrollmentImage(f"{file_name(name)}.jpg", jpeg(self.pictures.portraits[name]))
        _write(self.output / "people" / name / portrait.name, portrait.data)
        async with self.context.session() as session:
            person = await create_person(session, await find_gallery(session, NAME), name)
            await session.commit()
            enrollment = await enroll_pictures(session, self.encoders, NAME, person.id, [portrait])
            await session.commit()
        if not enrollment.faces:
            reason = enrollment.rejected[0].reason
            raise InvalidRequest(f"{self.encoders.default.name} cannot enroll the demo's portrait of {name}: {reason}")

    async def probes(self) -> "AsyncIterator[Probe]":
        """Recognize the faces of the group photo, then every portrait with every alteration."""
        from service.cli.demo_pictures import ALTERATIONS, GROUP, file_name, jpeg, seated_at

        group = jpeg(self.pictures.group)
        recognition = await self._recognize(group)
        _write(self.output / "group.jpg", group)
        _write(self.output / "recognized.jpg", await annotated_picture(self.encoders, group, recognition))
        seats = {seated_at(face.face.box): face for face in recognition.faces if face.face is not None}
        for name in self.pictures.seated:
            yield self._probe(name, GROUP, seats.get(name))
        for name, portrait in self.pictures.portraits.items():
            for alteration, altered in ALTERATIONS.items():
                probe = altered(portrait)
                _write(self.output / "probes" / f"{file_name(name)}-{file_name(alteration)}.jpg", probe)
                faces = (await self._recognize(probe)).faces
                yield self._probe(name, alteration, faces[0] if faces else None)

    async def _recognize(self, picture: bytes) -> "Identification":
        from service.identity.recognize import recognize_picture

        async with self.context.session() as session:
            return await recognize_picture(session, self.encoders, NAME, picture, limit=1)

    def _probe(self, name: str, picture: str, face: "IdentifiedFace | None") -> "Probe":
        from service.cli.demo_report import Probe

        candidates = face.decision.candidates if face is not None else ()
        match = face.decision.match if face is not None else None
        return Probe(
            person=name,
            is_enrolled=name in self.pictures.enrolled,
            picture=picture,
            recognized=None if match is None else match.name,
            similarity=candidates[0].similarity if candidates else None,
        )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
