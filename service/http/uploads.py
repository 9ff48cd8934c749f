"""Bodies of two kinds: images as a form, or embeddings as JSON. The content type tells."""

from fastapi import Request

from service.access.authentication import charge
from service.errors import UnsupportedMediaType
from service.http.bodies import is_json, is_multipart
from service.http.callers import current_caller
from service.http.multipart import OVERHEAD_BYTES, read_pictures
from service.http.state import server_state
from service.identity.enroll import EnrollmentImage


def takes_pictures(request: Request) -> bool:
    """True for a form with images, False for JSON with embeddings. Raises UnsupportedMediaType otherwise."""
    if is_multipart(request):
        return True
    if is_json(request):
        return False
    raise UnsupportedMediaType("send images as multipart/form-data or an embedding as application/json")


async def receive_images(request: Request, most: int = 1, least: int = 1) -> list[EnrollmentImage]:
    """Receive the images of a form, within the limits of the settings, and charge the rate limit for each."""
    if not is_multipart(request):
        raise UnsupportedMediaType("send images as multipart/form-data")
    settings = server_state(request).settings
    total = min(settings.maximum_request_bytes, most * (settings.maximum_image_bytes + OVERHEAD_BYTES))
    pictures = await read_pictures(
        request, image_bytes=settings.maximum_image_bytes, total_bytes=total, least=least, most=most
    )
    await charge(server_state(request).database.engine, current_caller(request), "inference", len(pictures) - 1)
    return pictures


async def receive_image(request: Request) -> bytes:
    """Receive the only image of a form."""
    return (await receive_images(request))[0].data
