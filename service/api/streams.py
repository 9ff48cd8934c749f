"""Recognition in a live video: a WebRTC peer sends its camera, and gets the annotated video and the results back."""

import functools
from typing import Annotated, Literal

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from service.api.recognition import SearchOptions
from service.api.shapes import MeanOf, MetadataFilter, Threshold
from service.database.session import release_connection, tenant_session
from service.encoder.images.decode import ImageLimits
from service.errors import EmbeddingSpaceMismatch, Overloaded, VideoNotInstalled
from service.http.callers import GalleryName, caller_with, check_gallery, check_scope, current_caller, key_in
from service.http.openapi import problems
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession
from service.http.state import CurrentServerState
from service.identity.decision import check_threshold
from service.identity.review import Review
from service.identity.spaces import find_gallery_for_pictures
from service.video.extra import require_video
from service.video.streams import Streams

router = keyed_router("/v1", "streams")
_SCOPE = "recognize"
MAXIMUM_SDP_CHARACTERS = 200_000


class SessionDescription(BaseModel):
    """A session description of WebRTC: the offer of the client, or the answer of the server."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"sdp": "v=0\r\n...", "type": "offer"}]})

    sdp: str = Field(max_length=MAXIMUM_SDP_CHARACTERS)
    type: Literal["offer", "answer"]


async def _search_options(
    threshold: Threshold = None, metadata: MetadataFilter = None, mean_of: MeanOf = 1
) -> SearchOptions:
    """The options of the recognition. A stream shows one person for each face."""
    return SearchOptions(1, threshold, metadata, mean_of)


@router.post(
    "/galleries/{gallery}/streams",
    status_code=201,
    responses=problems(EmbeddingSpaceMismatch, Overloaded, VideoNotInstalled),
)
@needs(_SCOPE)
async def open_gallery_stream(
    request: Request,
    gallery: GalleryName,
    offer: SessionDescription,
    *,
    state: CurrentServerState,
    session: RequestSession,
    options: Annotated[SearchOptions, Depends(_search_options)],
) -> SessionDescription:
    """Answer the offer of a WebRTC peer that sends a video. It gets the video back with boxes and names.

    If the peer opens a data channel, every analyzed frame arrives there as JSON. The stream ends with the connection,
    and if the key is revoked or the gallery erased. Every ten seconds are charged as one image.
    """
    require_video()
    from service.video.analysis import Analysis
    from service.video.gallery_search import search_galleries_of
    from service.video.peers import Description, Drawing, StreamOptions, open_stream
    from service.video.writing import label_of

    found = await find_gallery_for_pictures(session, gallery)
    found.check_identification()
    await release_connection(session)
    caller, key, settings = current_caller(request), key_in(request.headers), state.settings

    async def permit() -> None:
        """Raise if the key is no longer valid, and charge the next seconds."""
        again = await caller_with(state, key, "inference")
        check_scope(again, _SCOPE)
        check_gallery(again, gallery)

    await permit()
    search = search_galleries_of(
        functools.partial(tenant_session, state.database.engine, caller.tenant_id),
        gallery,
        threshold=check_threshold(options.threshold, found.threshold),
        metadata=options.metadata,
        mean_of=options.mean_of,
    )
    stream = StreamOptions(
        caller.tenant_id,
        Analysis(state.encoders, found.space, search, Review.of(settings)),
        Drawing(lambda seen, _: label_of(seen.identity)),
        ImageLimits(settings.maximum_image_bytes, settings.maximum_image_pixels),
        permit,
    )
    streams: Streams = request.app.state.streams
    answer = await open_stream(Description(offer.sdp, offer.type), streams, stream)
    return SessionDescription(sdp=answer.sdp, type="answer")
