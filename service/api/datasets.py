"""Datasets: import a file into a gallery as a background job, and export a gallery as a stream."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from service.database.session import release_connection
from service.errors import PayloadTooLarge
from service.gallery.galleries import find_gallery
from service.http.bodies import chunks, declared_bytes, is_multipart
from service.http.callers import GalleryName, current_caller
from service.http.multipart import OVERHEAD_BYTES, file_chunks
from service.http.openapi import BINARY, leads_to, problems
from service.http.request_log import is_head
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession, StreamSession
from service.http.state import CurrentServerState
from service.identity.datasets.writing import export_dataset
from service.identity.import_job import ArrivingFile, start_import
from service.settings import Settings

router = keyed_router("/v1/galleries/{gallery}", "datasets")

Format = Literal["dataset", "encoder", "ndjson"]
_MEDIA_TYPES: dict[str, str] = {
    "dataset": "application/json",
    "encoder": "application/json",
    "ndjson": "application/x-ndjson",
}
_DATASET: dict[str, Any] = {"schema": {}, "example": [["Ada", "0.12,-0.03,0.4"], ["Grace", "0.7,0.1,-0.2"]]}
_ANY_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
_FILE: dict[str, Any] = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "maxProperties": 1,
        "properties": {"file": BINARY | {"description": "The file. A form may also name the field otherwise."}},
    }
}
_ROWS: dict[str, Any] = {
    "schema": {},
    "example": '{"person": "Ada", "embedding": [0.12, -0.03, 0.4]}\n',
}
_EXPORTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {"application/json": _DATASET, "application/x-ndjson": _ROWS},
    }
}


class StartedJob(BaseModel):
    """The import job; `GET /v1/jobs/{job}` returns its progress."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"job": "0c4qyk3d9m2w8"}]})

    job: str


@router.post(
    "/import",
    status_code=202,
    responses=problems(PayloadTooLarge) | leads_to("jobs_show", answer=202, job="response.body#/job"),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "A dataset, the legacy encoder's output or NDJSON rows, as a form's only file. The body may "
            "also be the file itself, with any other content type.",
            "content": {"multipart/form-data": _FILE},
        }
    },
)
@needs("enroll")
async def import_dataset(
    request: Request, response: Response, gallery: GalleryName, session: RequestSession, state: CurrentServerState
) -> StartedJob:
    """Import references from a file in a background job, either completely or, after an error, not at all."""
    job = await start_import(session, gallery, _arriving(request, state.settings), current_caller(request).key_id)
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
    return StartedJob(job=job.id)


def _arriving(request: Request, settings: Settings) -> ArrivingFile:
    """The file of a request: the body, or the only file of a form, which is smaller than the body around it."""
    limit_bytes, declared, is_form = settings.maximum_import_bytes, declared_bytes(request), is_multipart(request)
    pieces = file_chunks(request, limit_bytes) if is_form else chunks(request, limit_bytes, "disk")
    least_bytes = max(0, declared - OVERHEAD_BYTES) if is_form else declared
    return ArrivingFile(pieces, limit_bytes, least_bytes)


@router.get("/export", response_class=StreamingResponse, responses=_EXPORTED)
@needs("export")
async def export(
    request: Request,
    gallery: GalleryName,
    session: StreamSession,
    file_format: Annotated[Format, Query(alias="format", description="Format of the file.")] = "dataset",
) -> StreamingResponse:
    """Export all references of a gallery; every number is exactly as it was imported."""
    found_gallery = await find_gallery(session, gallery)
    if is_head(request):
        return StreamingResponse(iter(()), media_type=_MEDIA_TYPES[file_format])
    await release_connection(session)
    content = await _started(export_dataset(session, found_gallery, file_format))
    return StreamingResponse(content, media_type=_MEDIA_TYPES[file_format])


async def _started(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Produce the first bytes now, so that an error before them still becomes a problem response."""
    first = await anext(content, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in content:
            yield piece

    return whole()
