"""Analyzed frames and appearances as JSON, for `--json` and for the data channel of streams."""

from typing import Any

from service.embedding import shown_similarity
from service.encoder.contract import Box
from service.video.analysis import AnalyzedFrame, TrackedFace
from service.video.appearances import Appearance


def frame_fields(frame: AnalyzedFrame) -> dict[str, Any]:
    """The number and time of a frame, and its faces."""
    return {
        "frame": frame.number,
        "seconds": round(frame.seconds, 3),
        "faces": [_face_fields(face) for face in frame.faces],
    }


def appearance_fields(one: Appearance) -> dict[str, Any]:
    """Who was seen, from when to when, and the best frame."""
    return {
        "person": None if one.name is None else {"id": one.person_id, "name": one.name},
        "from_seconds": round(one.from_seconds, 3),
        "to_seconds": round(one.to_seconds, 3),
        "best_similarity": None if one.name is None else shown_similarity(one.best_similarity),
        "best_frame": one.best_frame,
        "best_seconds": round(one.best_seconds, 3),
        "best_box": _box_fields(one.best_box),
        "frames": one.frames,
    }


def _face_fields(seen: TrackedFace) -> dict[str, Any]:
    identity = seen.identity
    return {
        "track": seen.track,
        "box": _box_fields(seen.face.box),
        "person": None if identity is None else {"id": identity.person_id, "name": identity.name},
        "similarity": None if identity is None else shown_similarity(identity.similarity),
    }


def _box_fields(box: Box) -> dict[str, float]:
    return {side: round(getattr(box, side), 1) for side in ("left", "top", "right", "bottom")}
