"""`face-identity legacy encoder`: write the embeddings of people's images as a dataset file."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from service.cli.context import read_settings
from service.cli.encoders import encoders_named
from service.cli.exits import ExitCode
from service.cli.legacy.arguments import encoder_arguments
from service.cli.output import progress, remark, write_json
from service.errors import InvalidRequest, ServiceError

if TYPE_CHECKING:
    from service.embedding import Embedding
    from service.encoder.encoders import Encoders

Encoded: TypeAlias = "dict[str, list[tuple[str, Embedding]]]"


def main(arguments: Sequence[str]) -> None:
    """Run the program. Exit code 3 if a file cannot be read; an image without a face is not a failure."""
    options = encoder_arguments(arguments)
    import asyncio

    from service.telemetry import configure_logging

    settings = read_settings(detector_load_device=options.det_dev, recognizer_load_device=options.rek_dev)
    if options.verbose:
        configure_logging("DEBUG")
    if options.input_data:
        people, unread = _people_of_json(options.input_data), 0
    else:
        people, unread = _people_of_folder(options.images_path)
    with encoders_named(settings, options.encoder or settings.legacy_encoder) as encoders:
        encoded, unread_images = asyncio.run(_encode(encoders, people))
    _write(options, encoded)
    if unread + unread_images:
        raise SystemExit(ExitCode.PARTLY)


def _people_of_json(text: str) -> dict[str, list[str]]:
    try:
        people = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"-i is not valid JSON: {error}") from None
    if not isinstance(people, dict):
        raise InvalidRequest('-i: write {"person1": ["a.jpg", "b.jpg"], ...}')
    for person, paths in people.items():
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise InvalidRequest(f"-i: the images of {person!r} must be a list of paths")
    return people


def _people_of_folder(folder: str) -> tuple[dict[str, list[str]], int]:
    """The paths of each person's images, and the number of files that belong to nobody."""
    from service.identity.people_folders import find_portraits

    found = find_portraits(Path(folder))
    for file in found.rejected:
        remark(f"{file.shown}: {file.detail}")
    return {person: [str(image.path) for image in images] for person, images in found.people.items()}, len(
        found.rejected
    )


async def _encode(encoders: "Encoders", people: Mapping[str, Sequence[str]]) -> tuple[Encoded, int]:
    """Encode the images of all people, and count the files that cannot be read. Prints each image without result."""
    from service.identity.legacy_recognition import encode_portrait, legacy_space
    from service.identity.people_folders import read_image_file

    space = legacy_space(encoders, None)
    encoded: Encoded = {}
    unread = 0
    with progress() as bar:
        task = bar.add_task("encoding", total=sum(map(len, people.values())))
        for person, paths in people.items():
            encoded[person] = []
            for path in paths:
                try:
                    embedding = await encode_portrait(encoders, space, read_image_file(Path(path)))
                    if embedding is None:
                        remark(f"{path}: no face was found")
                    else:
                        encoded[person].append((path, embedding))
                except (ServiceError, OSError) as error:
                    unread += 1
                    remark(f"{path}: {error}")
                bar.advance(task)
    return encoded, unread


def _write(options: argparse.Namespace, encoded: Encoded) -> None:
    dataset = _as_dataset(encoded) if options.shape == "dataset" else _as_encoder(encoded)
    if options.out:
        Path(options.out).write_text(json.dumps(dataset))
        remark(f"{sum(map(len, encoded.values()))} embeddings of {len(encoded)} people are in {options.out}")
    if options.prints or not options.out:
        write_json(dataset)


def _as_encoder(encoded: Encoded) -> dict[str, Any]:
    return {
        person: [{"img": path, "embedding": embedding.tolist()} for path, embedding in entries]
        for person, entries in encoded.items()
    }


def _as_dataset(encoded: Encoded) -> list[list[str]]:
    return [
        [person, ",".join(map(repr, embedding.tolist()))]
        for person, entries in encoded.items()
        for _, embedding in entries
    ]
