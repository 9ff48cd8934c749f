"""A small FastAPI application with the recognizer inside: no second server, no database.

At the start it enrolls the people of a folder: one folder per person, with images. Then it tells visitors apart:

    PEOPLE=demo-output/people uvicorn check_in:app --port 9000
    curl -s --data-binary @demo-output/group.jpg http://127.0.0.1:9000/check-in

References are in memory and end with the process. For galleries that grow, for several processes, keys and audit, call
the HTTP API of the service instead: `door.py` does.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Body, FastAPI, HTTPException, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from face_identity import Recognizer, ServiceError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
logger = logging.getLogger("check_in")


class Visitor(BaseModel):
    """One face. `name` is null for a face that matches nobody; `similarity` is 0 to 1."""

    name: str | None
    similarity: float
    left: float
    top: float
    right: float
    bottom: float


def people_in(folder: Path) -> dict[str, list[Path]]:
    """The images of each person: one folder per person, named like the person."""
    people = sorted(path for path in folder.iterdir() if path.is_dir())
    return {
        person.name: [path for path in person.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES] for person in people
    }


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the models once and enroll everybody. Both take a while, so they run in a thread."""
    people = people_in(Path(os.environ["PEOPLE"]))
    with Recognizer() as recognizer:
        app.state.recognizer = recognizer
        app.state.references = await run_in_threadpool(recognizer.enroll, people)
        for picture in app.state.references.rejected:
            logger.warning("%s, picture %d: %s", picture.name, picture.index, picture.detail)
        yield


app = FastAPI(title="Check-in", lifespan=lifespan)


@app.post("/check-in")
def check_in(request: Request, image: Annotated[bytes, Body(media_type="image/jpeg")]) -> list[Visitor]:
    """Who is in the image of the body? FastAPI runs this function in a thread, because recognition takes a while."""
    state = request.app.state
    try:
        faces = state.recognizer.recognize(image, state.references)
    except ServiceError as error:  # such as an image that cannot be read
        raise HTTPException(422, str(error)) from error
    return [
        Visitor(
            name=one.name,
            similarity=one.similarity,
            left=one.face.box.left,
            top=one.face.box.top,
            right=one.face.box.right,
            bottom=one.face.box.bottom,
        )
        for one in faces
    ]
