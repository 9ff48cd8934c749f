"""Bodies of two kinds: images as a form, or embeddings as JSON. The content type tells."""

from fastapi import Request

from service.access.authentication import charge
from service.errors import UnsupportedMediaType
from service.http.bodies import is_json, is_multipart
from service.http.callers import current_caller
from service.http.multipart import OVERHEAD_BYTES, read_pictures
from service.http.state import server_state
from service.identity.enroll import EnrollmentImage
from service.settings import Settings


def takes_pictures(request: Request) -> bool:
    """True for a form with images, False for JSON with embeddings. Raises UnsupportedMediaType otherwise."""
    if is_multipart(request):
        return True
    if is_json(request):
        return False
    raise UnsupportedMediaType("send images as multipart/form-data or an embedding as application/json")


async def receive_image(request: Request) -> bytes:
    """Receive the only image of a form. The route has charged the rate limit for it."""
    (image,) = await _receive_images(request, server_state(request).settings, least=1, most=1)
    return image.data


async def receive_and_charge_images(request: Request, *, least: int = 1, most: int) -> list[EnrollmentImage]:
    """Receive the images of a form, and charge the rate limit for every image after the first.

    The route has charged the first image before it read the body. Raises TooManyRequests over the rate limit.
    """
    state = server_state(request)
    images = await _receive_images(request, state.settings, least=least, most=most)
    await charge(state.database.engine, current_caller(request), "inference", len(images) - 1)
    return images


async def _receive_images(request: Request, settings: Settings, *, least: int, most: int) -> list[EnrollmentImage]:
    if not is_multipart(request):
        raise UnsupportedMediaType("send images as multipart/form-data")
    total = min(settings.maximum_request_bytes, most * (settings.maximum_image_bytes + OVERHEAD_BYTES))
    return await read_pictures(
        request, image_bytes=settings.maximum_image_bytes, total_bytes=total, least=least, most=most
    )
