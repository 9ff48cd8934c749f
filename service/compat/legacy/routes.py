"""The six endpoints of the legacy recognizer, with the same fields and answers."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from service.access.authentication import Caller, charge
from service.compat.legacy.answers import NOBODY, drawn_picture, faces_answer
from service.compat.legacy.callers import ENROLL, LegacyRoute
from service.compat.legacy.forms import DATASET, MAXIMUM_TEXT_BYTES, Form, read_form
from service.compat.legacy.streams import StreamSearch, answer_offer
from service.database.session import release_connection
from service.embedding import EmbeddingSpace
from service.encoder.contract import DetectedFace
from service.errors import Forbidden, InvalidRequest, UnreadableImage, UnsupportedImageFormat
from service.gallery.content import check_name
from service.gallery.galleries import Gallery
from service.gallery.search.turns import units_of
from service.http.callers import charging_searches, check_gallery, check_scope, current_caller
from service.http.sessions import RequestSession
from service.http.state import CurrentServerState, ServerState, request_encoders
from service.identity.legacy_recognition import encode_portrait, label_faces, legacy_space
from service.identity.spaces import find_gallery_for_pictures, find_same_gallery
from service.identity.uploaded_datasets import gallery_of_dataset

router = APIRouter(route_class=LegacyRoute)

_FILE = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "items": _FILE}
_TEXT = {"type": "string"}


def _form_of(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """The OpenAPI description of a form that the route reads itself."""
    form = {"type": "object", "properties": required | (optional or {}), "required": list(required)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


Drawn = Annotated[bool, Query(alias="return_img_b64", description="Include the image with boxes, as base64 JPEG.")]


@router.post("/detector/image", tags=["detector"], openapi_extra=_form_of({"file": _FILE}))
async def detect_image(request: Request, state: CurrentServerState, drawn: Drawn = False) -> dict[str, Any]:
    """Every face of the image in `file`. The label of a face is its index."""
    data = (await _form(request, state, "file")).file("file")
    detected = await request_encoders(request).detect(_space(state), data)
    return await _faces_of_picture(state, data, [(face, index) for index, face in enumerate(detected)], drawn)


@router.post("/encoder/image", tags=["encoder"], openapi_extra=_form_of({"file": _FILE}))
async def encode_image(request: Request, state: CurrentServerState) -> list[float] | None:
    """The embedding of the largest face in `file`, or null if it shows none."""
    data = (await _form(request, state, "file")).file("file")
    embedding = await encode_portrait(request_encoders(request), _space(state), data)
    return None if embedding is None else embedding.tolist()


@router.post("/encoder/images", tags=["encoder"], openapi_extra=_form_of({"key": _TEXT, "files": _FILES}))
async def encode_images(request: Request, state: CurrentServerState) -> dict[str, Any]:
    """The embeddings of the images in `files` under `key`. Images without a face are left out."""
    form = await _form(request, state, "files", "file", "key")
    key, pictures = form.text("key"), form.files("files", "file")
    check_name(key, "key")  # the answer is a dataset; its reader refuses the same labels
    await charge(state.database.engine, current_caller(request), "inference", len(pictures) - 1)
    space = _space(state)
    entries = []
    for index, data in enumerate(pictures):
        embedding = await _portrait_if_any(request, space, data)
        if embedding is not None:
            entries.append({"img": index, "embedding": embedding})
    return {key: entries}


@router.post(
    "/recognizer/image",
    tags=["recognizer"],
    openapi_extra=_form_of({"file": _FILE}, {"dataset": _FILE, "gallery": _TEXT}),
)
async def recognize_image(
    request: Request, state: CurrentServerState, session: RequestSession, drawn: Drawn = False
) -> dict[str, Any]:
    """Every face of the image in `file` with its label in `dataset`, or in the gallery named by `gallery`."""
    form = await _form(request, state, "file", "gallery", DATASET)
    data = form.file("file")
    named = await _named_gallery(request, session, form)
    space = _space(state) if named is None else named.space
    encoded = await request_encoders(request).encode(space, data)
    # Charged before the session begins its transaction: a request holds one connection at a time.
    size = named.faces if named is not None else form.dataset().estimated_references(space)
    await charging_searches(request)(units_of([size], len(encoded)) - 1)
    if named is None:
        lifetime = timedelta(seconds=state.settings.legacy_dataset_seconds)
        gallery = await gallery_of_dataset(session, form.dataset(), space, lifetime)
    else:
        gallery = await find_same_gallery(session, named)
    labeled = await label_faces(session, gallery, encoded)
    faces = [(each.face, NOBODY if each.label is None else each.label) for each in labeled]
    return await _faces_of_picture(state, data, faces, drawn)


_OFFER = {"sdp": _TEXT, "sdp_type": _TEXT}


@router.post("/detector/stream", tags=["detector"], openapi_extra=_form_of(_OFFER))
async def detect_stream(request: Request, state: CurrentServerState) -> dict[str, str]:
    """Answer the offer of a WebRTC peer that sends a video. It comes back with a box around each face."""
    form = await _stream_form(request, state, "sdp", "sdp_type")
    return await answer_offer(request, state, form, StreamSearch(_space(state), None))


@router.post(
    "/recognizer/stream",
    tags=["recognizer"],
    openapi_extra=_form_of(_OFFER, {"dataset": _FILE, "gallery": _TEXT}),
)
async def recognize_stream(request: Request, state: CurrentServerState, session: RequestSession) -> dict[str, str]:
    """Answer the offer of a WebRTC peer that sends a video. It comes back with a box and a label for each face: its
    label in `dataset`, or in the gallery named by `gallery`.
    """
    form = await _stream_form(request, state, "sdp", "sdp_type", "gallery", DATASET)
    named = await _named_gallery(request, session, form)
    if named is not None:
        return await answer_offer(request, state, form, StreamSearch(named.space, named))
    lifetime = timedelta(seconds=state.settings.legacy_dataset_seconds)
    gallery = await gallery_of_dataset(session, form.dataset(), _space(state), lifetime)
    return await answer_offer(request, state, form, StreamSearch(gallery.space, gallery, form.dataset()))


async def _stream_form(request: Request, state: ServerState, *names: str) -> Form:
    limits = dict.fromkeys(names, MAXIMUM_TEXT_BYTES)
    if DATASET in names:
        limits[DATASET] = state.settings.maximum_request_bytes
    return await read_form(request, limits, state.settings.maximum_request_bytes)


async def _form(request: Request, state: ServerState, *names: str) -> Form:
    """Read the fields of these names. An overloaded server refuses before it reads the body."""
    slot = state.encoders.reserve_slot()
    request.state.image_slot = slot
    settings = state.settings
    limits = dict.fromkeys(names, settings.maximum_image_bytes)
    limits |= {name: MAXIMUM_TEXT_BYTES for name in ("key", "gallery") if name in names}
    if DATASET in names:
        limits[DATASET] = settings.maximum_request_bytes
    try:
        return await read_form(request, limits, settings.maximum_request_bytes)
    except BaseException:
        slot.release()  # there will be no image
        raise


def _space(state: ServerState) -> EmbeddingSpace:
    return legacy_space(state.encoders, state.settings.legacy_encoder)


async def _named_gallery(request: Request, session: AsyncSession, form: Form) -> Gallery | None:
    """The gallery that the form names, or None if it brings a dataset. No connection is held afterwards."""
    if ("gallery" in form) == (DATASET in form):
        raise InvalidRequest("the form needs one of the fields `dataset` and `gallery`")
    if DATASET in form:
        _check_may_store(current_caller(request))
        return None
    name = form.text("gallery")
    check_gallery(current_caller(request), name)
    gallery = await find_gallery_for_pictures(session, name)
    gallery.check_identification()
    await release_connection(session)
    return gallery


def _check_may_store(caller: Caller) -> None:
    """Raises Forbidden for a key that must not store people: a dataset becomes a gallery of its own."""
    check_scope(caller, ENROLL)
    if caller.galleries is not None:
        raise Forbidden("this key is limited to galleries, and a dataset becomes another gallery; send `gallery`")


async def _portrait_if_any(request: Request, space: EmbeddingSpace, data: bytes) -> list[float] | None:
    """The embedding of the largest face, or None if there is none or the file is not an image.

    The legacy recognizer left such files out too. The index in each entry shows which files are missing.
    """
    try:
        embedding = await encode_portrait(request_encoders(request), space, data)
    except (UnreadableImage, UnsupportedImageFormat):
        return None
    return None if embedding is None else embedding.tolist()


async def _faces_of_picture(
    state: ServerState, data: bytes, faces: Sequence[tuple[DetectedFace, str | int]], drawn: bool
) -> dict[str, Any]:
    answer = faces_answer(faces)
    if drawn:
        answer["img_b64"] = await drawn_picture(state.encoders, data, faces)
    return answer
