"""Detect and encode the faces of an image. Nothing is stored."""

from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict

from service.api.shapes import IMAGE_PROBLEMS, EncoderName, FoundFace, face_fields
from service.embedding import EmbeddingSpace
from service.errors import InvalidRequest
from service.http.openapi import body_of_images, problems
from service.http.routes import keyed_router, needs
from service.http.state import CurrentServerState, ServerState, request_encoders
from service.http.uploads import receive_image
from service.identity.spaces import resolve_space

router = keyed_router("/v1", "pictures")

_FACE: dict[str, Any] = {
    "box": {"left": 10.0, "top": 12.5, "right": 90.0, "bottom": 110.0},
    "detection_score": 0.98,
    "quality": 0.71,
    "landmarks": [[35.0, 50.0], [65.0, 50.0], [50.0, 70.0], [38.0, 90.0], [62.0, 90.0]],
}


class Detection(BaseModel):
    """The faces of an image, largest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"faces": [_FACE], "width": 640, "height": 480}]})

    faces: list[FoundFace]
    width: int
    height: int


class SpaceShape(BaseModel):
    """The embedding space of embeddings. Embeddings of spaces with different digests cannot be compared."""

    name: str
    digest: str
    dimension: int
    metric: str
    threshold: float

    @classmethod
    def of(cls, space: EmbeddingSpace) -> "SpaceShape":
        """Convert an embedding space to a response."""
        return cls(
            name=space.name,
            digest=space.digest,
            dimension=space.dimension,
            metric=space.metric,
            threshold=space.threshold,
        )


class EncodedShape(FoundFace):
    """A face with its embedding, as the recognition model returned it."""

    embedding: list[float]


class Encoding(BaseModel):
    """The faces of an image with their embeddings, largest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "faces": [_FACE | {"embedding": [0.12, -0.03, 0.4]}],
                    "embedding_space": {
                        "name": "dlib",
                        "digest": "6f1c…",
                        "dimension": 128,
                        "metric": "euclidean",
                        "threshold": 0.45,
                    },
                }
            ]
        }
    )

    faces: list[EncodedShape]
    embedding_space: SpaceShape


@router.post("/detect", responses=problems(*IMAGE_PROBLEMS), openapi_extra=body_of_images("One image."))
@needs("recognize", runs_model=True)
async def detect(request: Request, state: CurrentServerState, encoder: EncoderName = None) -> Detection:
    """Find the faces in an image."""
    space = _encoder_space(state, encoder)
    data, encoders = await receive_image(request), request_encoders(request)
    image = await encoders.decode(data)
    faces = await encoders.detect(space, image)
    return Detection(
        faces=[FoundFace.of(face) for face in faces], width=int(image.shape[1]), height=int(image.shape[0])
    )


@router.post("/encode", responses=problems(*IMAGE_PROBLEMS), openapi_extra=body_of_images("One image."))
@needs("recognize", runs_model=True)
async def encode(request: Request, state: CurrentServerState, encoder: EncoderName = None) -> Encoding:
    """Return the embedding of every face in an image, and the embedding space."""
    space = _encoder_space(state, encoder)
    encoded = await request_encoders(request).encode(space, await receive_image(request))
    faces = [EncodedShape(**face_fields(face.face), embedding=face.embedding.tolist()) for face in encoded]
    return Encoding(faces=faces, embedding_space=SpaceShape.of(space))


def _encoder_space(state: ServerState, name: str | None) -> EmbeddingSpace:
    space = resolve_space(state.encoders, name)
    if space.is_external:
        raise InvalidRequest("encoder: external:... names embeddings made elsewhere; name an encoder of this server")
    return space
