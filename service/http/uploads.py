"""Images and embeddings of a request. An image comes as a form, as the body itself, or as base64 in JSON.

The content type tells which of them it is. Addresses of images are refused: the server contacts nobody.
"""

from fastapi import Request

from service.access.authentication import charge
from service.errors import ImageTooLarge, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from service.http.bodies import Vector, is_image, is_json, is_multipart, read_body
from service.http.callers import current_caller
from service.http.multipart import OVERHEAD_BYTES, read_pictures
from service.http.probes import NewReference, read_image_or_probes, read_image_or_reference, read_json_image
from service.http.state import server_state
from service.identity.enroll import EnrollmentImage

UNNAMED = "image 1"
"""The name of an image without a file name."""
_FORMS_OF_AN_IMAGE = (
    "an image as multipart/form-data (field 'image'), as the body with Content-Type: image/jpeg, "
    'or as {"image": BASE64} with Content-Type: application/json'
)


async def receive_image(request: Request) -> bytes:
    """Receive the only image of a request. The rate limit was charged for it."""
    if is_json(request):
        image = await read_json_image(request)
        await _charge_unannounced(request)
        return image
    (received,) = await _receive_files(request, most=1)
    return received.data


async def receive_image_or_probes(request: Request, limit_bytes: int) -> bytes | list[Vector]:
    """Receive one image, or embeddings in a JSON body of at most `limit_bytes`."""
    if not is_json(request):
        return await receive_image(request)
    received = await read_image_or_probes(request, limit_bytes)
    if isinstance(received, bytes):
        await _charge_unannounced(request)
    return received


async def receive_images_or_reference(request: Request, *, most: int) -> list[EnrollmentImage] | NewReference:
    """Receive images, and charge the rate limit for every image after the first; or one embedding."""
    if not is_json(request):
        return await receive_and_charge_images(request, most=most)
    received = await read_image_or_reference(request)
    if isinstance(received, NewReference):
        return received
    await _charge_unannounced(request)
    return [EnrollmentImage(UNNAMED, received)]


async def receive_and_charge_images(request: Request, *, least: int = 1, most: int) -> list[EnrollmentImage]:
    """Receive images that are not in JSON, and charge the rate limit for every image after the first.

    The route has charged the first image before it read the body. Raises TooManyRequests over the rate limit.
    """
    if least > 1 and not is_multipart(request):
        raise UnsupportedMediaType(f"send {least} images as multipart/form-data, in fields 'image'")
    images = await _receive_files(request, least=least, most=most)
    await charge(server_state(request).database.engine, current_caller(request), "inference", len(images) - 1)
    return images


async def _receive_files(request: Request, *, least: int = 1, most: int) -> list[EnrollmentImage]:
    settings = server_state(request).settings
    if is_image(request):
        return [EnrollmentImage(UNNAMED, await _read_raw(request, settings.maximum_image_bytes))]
    if not is_multipart(request):
        raise UnsupportedMediaType(f"send {_FORMS_OF_AN_IMAGE}")
    total = min(settings.maximum_request_bytes, most * (settings.maximum_image_bytes + OVERHEAD_BYTES))
    return await read_pictures(
        request, image_bytes=settings.maximum_image_bytes, total_bytes=total, least=least, most=most
    )


async def _read_raw(request: Request, limit_bytes: int) -> bytes:
    try:
        data = bytes(await read_body(request, limit_bytes))
    except PayloadTooLarge:
        detail = f"{UNNAMED} is larger than {limit_bytes} bytes"
        raise ImageTooLarge(detail, image=UNNAMED, limit_bytes=limit_bytes) from None
    if not data:
        raise InvalidRequest("the body is empty")
    return data


async def _charge_unannounced(request: Request) -> None:
    """Charge an image that was not announced at the beginning of its JSON, so that no slot was reserved for it."""
    if getattr(request.state, "image_slot", None) is None:
        await charge(server_state(request).database.engine, current_caller(request), "inference", 1)
