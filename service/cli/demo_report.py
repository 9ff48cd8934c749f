"""The demo's report: a table of the recognized people by image, and the places where data was stored."""

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from service.cli.demo_pictures import ALTERATIONS, GROUP, DemoPictures
from service.cli.output import write_json, write_line, write_table
from service.database.addresses import parse_address
from service.embedding import EmbeddingSpace
from service.settings import Settings


@dataclass(frozen=True)
class Probe:
    """One face in one image: the real person and the answer of the service."""

    person: str
    is_enrolled: bool
    picture: str
    recognized: str | None
    similarity: float | None
    """Similarity to the nearest person of the gallery; None if no face was found."""

    @property
    def is_right(self) -> bool:
        """True if an enrolled person is recognized, or if a stranger's face is found and matches nobody."""
        if self.is_enrolled:
            return self.recognized == self.person
        return self.recognized is None and self.similarity is not None


@dataclass(frozen=True)
class DemoReport:
    """The result of one run of the demo."""

    settings: Settings
    space: EmbeddingSpace
    pictures: DemoPictures
    probes: list[Probe]
    output: Path
    seconds: float

    @property
    def is_right(self) -> bool:
        """True if every probe is right."""
        return all(probe.is_right for probe in self.probes)

    @property
    def database(self) -> str:
        """The place of the data, without the login."""
        if not self.settings.database_url:
            return str(self.settings.data_dir / "postgres")
        url = parse_address(self.settings.database_url)
        return f"database {url.database} on {url.host or 'this machine'}"


def tell(report: DemoReport, as_json: bool) -> None:
    """Print the report."""
    if as_json:
        write_json(_as_json(report))
        return
    people, strangers = report.pictures.enrolled, report.pictures.strangers
    write_line(f"Enrolled from one portrait each ({report.space.name}): {', '.join(people)}.")
    write_line(f"Not enrolled, so recognition must return nobody: {', '.join(strangers)}.\n")
    columns = [GROUP, *ALTERATIONS]
    by_place = {(probe.person, probe.picture): probe for probe in report.probes}
    rows = [
        [name, *(_cell(by_place.get((name, picture))) for picture in columns)] for name in report.pictures.portraits
    ]
    write_table(["", *columns], rows, "")
    right = sum(probe.is_right for probe in report.probes)
    write_line(f"\n{right} of {len(report.probes)} faces recognized correctly, in {report.seconds:.1f} s.")
    write_line(
        f"Numbers are similarities to the nearest person; {report.space.threshold:.2f} or more is a match. The probes "
        "are altered copies of the same\nphotographs: the demo shows that everything works. It does not measure "
        "accuracy (`face-identity evaluate FOLDER` does).\n"
    )
    for line in _places(report):
        write_line(line)


def _cell(probe: Probe | None) -> Text:
    if probe is None:
        return Text("")
    if probe.similarity is None:
        return Text("WRONG: no face found", style="bold red")
    said = "no match" if probe.recognized is None else "match"
    if not probe.is_right and probe.recognized is not None:
        said = f"taken for {probe.recognized}"
    text = f"{said} {probe.similarity:.2f}"
    return Text(text, style="green") if probe.is_right else Text(f"WRONG: {text}", style="bold red")


def _places(report: DemoReport) -> list[str]:
    """The places of the stored data, and the commands that continue or remove it."""
    people, command = len(report.pictures.enrolled), shlex.quote(_program())
    folder, group = shlex.quote(str(report.output)), shlex.quote(str(report.output / "group.jpg"))
    return [
        f"Stored     {people} people with one embedding each, no picture: tenant demo, gallery demo",
        f"           in {report.database}",
        f"Written    {report.output / 'recognized.jpg'}: the annotated group photo; people and probes are beside it",
        f"Try        {command} recognize {group} --tenant demo --gallery demo",
        f"Serve      {command} serve (or: make run)",
        f"Remove     {command} tenants delete demo --yes; rm -r {folder}",
    ]


def _program() -> str:
    """Return the command as the user can type it."""
    on_path = shutil.which("face-identity")
    return "face-identity" if on_path is not None and Path(on_path).samefile(sys.argv[0]) else sys.argv[0]


def _as_json(report: DemoReport) -> dict[str, object]:
    return {
        "right": report.is_right,
        "embedding_space": report.space.name,
        "threshold": report.space.threshold,
        "tenant": "demo",
        "gallery": "demo",
        "enrolled": report.pictures.enrolled,
        "strangers": report.pictures.strangers,
        "probes": [
            {
                "person": probe.person,
                "picture": probe.picture,
                "recognized": probe.recognized,
                "similarity": probe.similarity,
                "right": probe.is_right,
            }
            for probe in report.probes
        ],
        "annotated": str(report.output / "recognized.jpg"),
        "seconds": round(report.seconds, 2),
    }
