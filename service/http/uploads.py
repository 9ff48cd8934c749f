"""What a route takes in its body: pictures as a form, or embeddings as JSON, told apart by the content type."""

from fastapi import Request

from service.access.authentication import charge
from service.errors import UnsupportedMediaType
from service.http.bodies import is_json, is_multipart
from service.http.callers import current_caller
from service.http.multipart import OVERHEAD_BYTES, read_pictures
from service.http.state import server_state
from service.identity.enroll import EnrollmentImage


def takes_pictures(request: Request) -> bool:
    """True for a form with pictures, False for JSON with embeddings, UnsupportedMediaType for anything else."""
    if is_multipart(request):
        return True
    if is_json(request):
        return False
    raise UnsupportedMediaType("send pictures as multipart/form-data or an embedding as application/json")


async def receive_images(request: Request, most: int = 1, least: int = 1) -> list[EnrollmentImage]:
    """The pictures of a form, within the limits of the settings."""
    if not is_multipart(request):
        raise UnsupportedMediaType("send pictures as multipart/form-data")
    settings = server_state(request).settings
    total = min(settings.maximum_request_bytes, most * (settings.maximum_image_bytes + OVERHEAD_BYTES))
    pictures = await read_pictures(
        request, image_bytes=settings.maximum_image_bytes, total_bytes=total, least=least, most=most
    )
    await charge(server_state(request).database.engine, current_caller(request), "inference", len(pictures) - 1)
    return pictures


async def receive_image(request: Request) -> bytes:
    """The only picture of a form."""
    return (await receive_images(request))[0].data
