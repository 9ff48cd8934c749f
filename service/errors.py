"""The catalogue of errors: each class has a slug and a status, its docstring is the title.

The instance carries the detail, which names the place and never holds an embedding, an image or a secret.
`/v1` renders it as problem+json, each dialect in its own shape, the command line as an exit code.
"""


class ServiceError(Exception):
    """The service could not do what was asked."""

    slug = "internal-error"
    status = 500

    def __init__(self, detail: str = "", **members: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = members

    @property
    def title(self) -> str:
        """The class's docstring, without its full stop."""
        return title_of(type(self))


def title_of(kind: type[ServiceError]) -> str:
    """The title that every error of a class has."""
    return (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")


class InvalidRequest(ServiceError):
    """The request is not of the form this operation takes."""

    slug = "invalid-request"
    status = 422


class Unauthenticated(ServiceError):
    """A valid API key is needed."""

    slug = "unauthenticated"
    status = 401


class Forbidden(ServiceError):
    """This key may not do that."""

    slug = "forbidden"
    status = 403


class NotFound(ServiceError):
    """There is no such thing here."""

    slug = "not-found"
    status = 404


class MethodNotAllowed(ServiceError):
    """This method is not offered here."""

    slug = "method-not-allowed"
    status = 405


class HeadTooLarge(ServiceError):
    """The request's headers are larger than this server takes."""

    slug = "head-too-large"
    status = 431


class RequestTimedOut(ServiceError):
    """The request did not arrive in time."""

    slug = "request-timed-out"
    status = 408


class Conflict(ServiceError):
    """That is already taken."""

    slug = "conflict"
    status = 409


class InvalidCursor(InvalidRequest):
    """The cursor is none that this list gave."""

    slug = "invalid-cursor"


class ExpiresInThePast(InvalidRequest):
    """What is to expire has to expire later."""

    slug = "expires-in-the-past"


class UnstorableJson(InvalidRequest):
    """This JSON cannot be kept."""

    slug = "unstorable-json"


class EmbeddingSpaceMismatch(Conflict):
    """Embeddings of two embedding spaces are never compared."""

    slug = "embedding-space-mismatch"


class InvalidEmbedding(InvalidRequest):
    """The embedding cannot be used."""

    slug = "invalid-embedding"


class InvalidDataset(InvalidRequest):
    """The dataset file cannot be read."""

    slug = "invalid-dataset"


class PayloadTooLarge(ServiceError):
    """The upload is larger than this server takes."""

    slug = "payload-too-large"
    status = 413


class UnsupportedMediaType(ServiceError):
    """The body is of a kind that this operation does not take."""

    slug = "unsupported-media-type"
    status = 415


class UnreadableImage(InvalidRequest):
    """The image cannot be decoded."""

    slug = "unreadable-image"


class UnsupportedImageFormat(ServiceError):
    """Images are taken as JPEG, PNG, WebP or BMP."""

    slug = "unsupported-image-format"
    status = 415


class ImageTooLarge(PayloadTooLarge):
    """The image has more pixels or bytes than this server takes."""

    slug = "image-too-large"


class NoFaceFound(InvalidRequest):
    """No face was found in the image."""

    slug = "no-face-found"


class TooManyRequests(ServiceError):
    """More was asked for in this time than is allowed."""

    slug = "too-many-requests"
    status = 429

    def __init__(self, detail: str = "", *, retry_after_seconds: int, **members: object) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds, **members)
        self.retry_after_seconds = retry_after_seconds
        """What the answer's `Retry-After` says."""


class QuotaExceeded(TooManyRequests):
    """A quota of this tenant is used up."""

    slug = "quota-exceeded"


class EncoderUnavailable(ServiceError):
    """The encoder that this needs is not loaded on this server."""

    slug = "encoder-unavailable"
    status = 503


class NotLive(InvalidRequest):
    """The picture shows no living face."""

    slug = "not-live"


class Overloaded(ServiceError):
    """The server has more pictures to work on than it can answer in time."""

    slug = "overloaded"
    status = 503

    def __init__(self, detail: str = "", *, retry_after_seconds: int, **members: object) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds, **members)
        self.retry_after_seconds = retry_after_seconds
        """What the answer's `Retry-After` says."""


class UnknownEncoder(EncoderUnavailable):
    """There is no encoder of that name on this server."""

    slug = "unknown-encoder"
    status = 422


class InvalidModel(ServiceError):
    """The model files cannot be used."""

    slug = "invalid-model"
    status = 500


class InvalidSettings(ServiceError):
    """A setting has a value that cannot be used."""

    slug = "invalid-settings"
    status = 500


class DatabaseUnavailable(ServiceError):
    """The database does not answer."""

    slug = "database-unavailable"
    status = 503


class NotOffered(ServiceError):
    """This server does not offer that."""

    slug = "not-offered"
    status = 501
