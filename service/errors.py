"""The error catalogue: each class has a slug and an HTTP status, and its docstring is the title.

The instance carries the detail. The detail names the file, row or field at fault and never holds an embedding, an
image or a secret. `/v1` renders an error as problem+json, each dialect in its own shape, the command line as an exit
code.
"""


class ServiceError(Exception):
    """The service could not complete the request."""

    slug = "internal-error"
    status = 500

    def __init__(self, detail: str = "", **members: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = members

    @property
    def title(self) -> str:
        """The docstring of the class, without its full stop."""
        return title_of(type(self))


def title_of(kind: type[ServiceError]) -> str:
    """The title of every error of that class."""
    return (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")


class InvalidRequest(ServiceError):
    """The request is not valid for this operation."""

    slug = "invalid-request"
    status = 422


class MalformedRequest(ServiceError):
    """The request is not valid HTTP."""

    slug = "malformed-request"
    status = 400


class AmbiguousLength(ServiceError):
    """The request states the length of its body in two ways."""

    slug = "ambiguous-length"
    status = 400


class Unauthenticated(ServiceError):
    """This request needs a valid API key."""

    slug = "unauthenticated"
    status = 401


class Forbidden(ServiceError):
    """This API key does not allow the operation."""

    slug = "forbidden"
    status = 403


class NotFound(ServiceError):
    """The requested resource does not exist."""

    slug = "not-found"
    status = 404


class MethodNotAllowed(ServiceError):
    """This path does not support the HTTP method."""

    slug = "method-not-allowed"
    status = 405


class HeadTooLarge(ServiceError):
    """The request headers are larger than this server accepts."""

    slug = "head-too-large"
    status = 431


class RequestTimedOut(ServiceError):
    """The request did not arrive in time."""

    slug = "request-timed-out"
    status = 408


class Conflict(ServiceError):
    """The request conflicts with the current state of the resource."""

    slug = "conflict"
    status = 409


class InvalidCursor(InvalidRequest):
    """The cursor is invalid or belongs to another list."""

    slug = "invalid-cursor"


class ExpiresInThePast(InvalidRequest):
    """The expiry time must lie in the future."""

    slug = "expires-in-the-past"


class UnstorableJson(InvalidRequest):
    """The JSON value cannot be stored."""

    slug = "unstorable-json"


class EmbeddingSpaceMismatch(Conflict):
    """Embeddings of different embedding spaces cannot be compared."""

    slug = "embedding-space-mismatch"


class InvalidEmbedding(InvalidRequest):
    """The embedding cannot be used."""

    slug = "invalid-embedding"


class InvalidDataset(InvalidRequest):
    """The dataset file cannot be read."""

    slug = "invalid-dataset"


class PayloadTooLarge(ServiceError):
    """The upload is larger than this server accepts."""

    slug = "payload-too-large"
    status = 413


class UnsupportedMediaType(ServiceError):
    """This operation does not accept the media type of the body."""

    slug = "unsupported-media-type"
    status = 415


class UnreadableImage(InvalidRequest):
    """The image cannot be decoded."""

    slug = "unreadable-image"


class UnsupportedImageFormat(ServiceError):
    """The image format is not supported: use JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC."""

    slug = "unsupported-image-format"
    status = 415


class ImageTooLarge(PayloadTooLarge):
    """The image has more pixels or bytes than this server accepts."""

    slug = "image-too-large"


class NoFaceFound(InvalidRequest):
    """No face was found in the image."""

    slug = "no-face-found"


class RetryLater(ServiceError):
    """The request may succeed later."""

    slug = "retry-later"
    status = 503

    def __init__(self, detail: str = "", *, retry_after_seconds: int, **members: object) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds, **members)
        self.retry_after_seconds = retry_after_seconds
        """Value of the `Retry-After` header, in whole seconds."""


class TooManyRequests(RetryLater):
    """The rate limit is exceeded."""

    slug = "too-many-requests"
    status = 429


class QuotaExceeded(TooManyRequests):
    """A quota of the tenant is exceeded."""

    slug = "quota-exceeded"


class EncoderUnavailable(ServiceError):
    """This server has not loaded the required encoder."""

    slug = "encoder-unavailable"
    status = 503


class SeveralFaces(InvalidRequest):
    """The image shows several faces of similar size."""

    slug = "several-faces"


class DuplicatePicture(Conflict):
    """The same image is already a reference of this person."""

    slug = "duplicate-picture"


class DuplicateEmbedding(Conflict):
    """The same embedding is already a reference of this person."""

    slug = "duplicate-embedding"


class UnlikeOtherReferences(Conflict):
    """The face is unlike the person's other references."""

    slug = "unlike-other-references"


class NearerToAnotherPerson(Conflict):
    """The face is more similar to another person of the gallery."""

    slug = "nearer-to-another-person"


class NoPerson(InvalidRequest):
    """The image belongs to no person."""

    slug = "no-person"


class FaceTooSmall(InvalidRequest):
    """The face is too small."""

    slug = "face-too-small"


class FaceBlurred(InvalidRequest):
    """The face is blurred."""

    slug = "face-blurred"


class FaceBadlyLit(InvalidRequest):
    """The face is too dark, too bright, or unevenly lit."""

    slug = "face-badly-lit"


class FaceTurnedAway(InvalidRequest):
    """The face is turned away from the camera."""

    slug = "face-turned-away"


class FaceUncertain(InvalidRequest):
    """The detector is not certain that this is a face."""

    slug = "face-uncertain"


class NotLive(InvalidRequest):
    """The image does not show a living face."""

    slug = "not-live"


class Overloaded(RetryLater):
    """The server is overloaded with images and cannot answer in time."""

    slug = "overloaded"
    status = 503


class OutOfMemory(ServiceError):
    """The server has not enough memory for this at the moment."""

    slug = "out-of-memory"
    status = 503


class TenantBodyBudgetFull(TooManyRequests):
    """The requests of the tenant hold as many bytes as they may."""

    slug = "tenant-body-budget-full"


class BodyBudgetFull(RetryLater):
    """The requests of all tenants hold as many bytes as they may."""

    slug = "body-budget-full"


class TooManyConnections(RetryLater):
    """The server has too many open connections."""

    slug = "too-many-connections"


class OutOfFiles(RetryLater):
    """The server has no free file descriptor at the moment."""

    slug = "out-of-files"


class OutOfDisk(RetryLater):
    """The server has no free disk space at the moment."""

    slug = "out-of-disk"


class UnknownEncoder(EncoderUnavailable):
    """This server has no encoder of that name."""

    slug = "unknown-encoder"
    status = 422


class InvalidModel(ServiceError):
    """The model files are not usable."""

    slug = "invalid-model"
    status = 500


class InvalidSettings(ServiceError):
    """A setting has an invalid value."""

    slug = "invalid-settings"
    status = 500


class DatabaseUnavailable(ServiceError):
    """The database is not available."""

    slug = "database-unavailable"
    status = 503


class StatementTimedOut(DatabaseUnavailable):
    """A statement of the database took too long."""

    slug = "statement-timed-out"
    status = 504


class NotOffered(ServiceError):
    """This server does not offer the operation."""

    slug = "not-offered"
    status = 501


class VideoNotInstalled(NotOffered):
    """This installation cannot decode videos."""

    slug = "video-not-installed"


class UnreadableVideo(InvalidRequest):
    """The video cannot be decoded."""

    slug = "unreadable-video"


class VideoSourceUnavailable(ServiceError):
    """The video source does not answer."""

    slug = "video-source-unavailable"
    status = 502
