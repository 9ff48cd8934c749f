"""WebRTC streams of legacy callers. The route has read the form; the stream outlives the request."""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from fastapi import Request

from service.compat.legacy.answers import NOBODY
from service.compat.legacy.callers import ENROLL, SCOPE, caller_of
from service.compat.legacy.forms import Form
from service.database.session import tenant_session
from service.embedding import EmbeddingSpace
from service.encoder.images.decode import ImageLimits
from service.gallery.galleries import Gallery
from service.http.callers import check_gallery, check_scope, current_caller
from service.http.state import ServerState
from service.identity.spaces import find_same_gallery
from service.identity.uploaded_datasets import UploadedDataset, gallery_of_dataset
from service.video.extra import require_video
from service.video.streams import Streams

if TYPE_CHECKING:
    from service.video.analysis import TrackedFace


@dataclass(frozen=True)
class StreamSearch:
    """What a stream compares with: nothing, a gallery, or the gallery of an uploaded dataset."""

    space: EmbeddingSpace
    gallery: Gallery | None
    dataset: UploadedDataset | None = None


async def answer_offer(request: Request, state: ServerState, form: Form, search: StreamSearch) -> dict[str, str]:
    """The answer to the offer in the form. The fields are those of the legacy recognizer."""
    require_video()
    from service.identity.review import Review
    from service.video.analysis import Analysis
    from service.video.gallery_search import vote_in
    from service.video.peers import Description, Drawing, StreamOptions, open_stream

    caller, settings = current_caller(request), state.settings
    open_session = functools.partial(tenant_session, state.database.engine, caller.tenant_id)
    recognize = None if search.gallery is None else vote_in(open_session, search.gallery)
    options = StreamOptions(
        caller.tenant_id,
        Analysis(state.encoders, search.space, recognize, Review.of(settings)),
        Drawing(_index if recognize is None else _label, has_landmarks=True, marks_unknown=False),
        ImageLimits(settings.maximum_image_bytes, settings.maximum_image_pixels),
        _permission(request, state, search),
    )
    streams: Streams = request.app.state.streams
    offer = Description(form.text("sdp"), form.text("sdp_type"))
    answer = await open_stream(offer, streams, options)
    return {"sdp": answer.sdp, "type": answer.type}


def _permission(request: Request, state: ServerState, search: StreamSearch) -> Callable[[], Awaitable[None]]:
    """Charges the next seconds, and keeps the dataset. Raises if the key or the gallery is gone."""
    headers = request.headers
    lifetime = timedelta(seconds=state.settings.legacy_dataset_seconds)

    async def permit() -> None:
        caller = await caller_of(state, headers)
        check_scope(caller, SCOPE)
        if search.gallery is None:
            return
        async with tenant_session(state.database.engine, caller.tenant_id) as session, session.begin():
            if search.dataset is not None:
                check_scope(caller, ENROLL)
                await gallery_of_dataset(session, search.dataset, search.space, lifetime)
            else:
                check_gallery(caller, search.gallery.name)
                await find_same_gallery(session, search.gallery)

    return permit


def _label(seen: "TrackedFace", _: int) -> str:
    return NOBODY if seen.identity is None else seen.identity.name


def _index(_: "TrackedFace", place: int) -> str:
    return str(place)
