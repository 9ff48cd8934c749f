"""Forms of legacy callers, read as they arrive. Nothing is written to disk; unknown parts are skipped."""

from collections.abc import Mapping

from fastapi import Request

from service.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from service.http.bodies import is_multipart
from service.http.multipart import parts
from service.identity.uploaded_datasets import ArrivingDataset, UploadedDataset

DATASET = "dataset"
MAXIMUM_TEXT_BYTES = 64 * 1024


class Form:
    """The requested parts of a form by name, in order."""

    def __init__(self) -> None:
        self._contents: dict[str, list[bytes | UploadedDataset]] = {}

    def add(self, name: str, content: bytes | UploadedDataset) -> None:
        """Add a part that has arrived."""
        self._contents.setdefault(name, []).append(content)

    def __contains__(self, name: str) -> bool:
        return name in self._contents

    def files(self, *names: str) -> list[bytes]:
        """The parts of these names. Raises InvalidRequest if there is none."""
        contents = [content for name in names for content in self._contents.get(name, []) if isinstance(content, bytes)]
        if not contents:
            raise InvalidRequest(f"the form has no field `{names[0]}`")
        return contents

    def file(self, name: str) -> bytes:
        """The only part of that name."""
        contents = self.files(name)
        if len(contents) > 1:
            raise InvalidRequest(f"the form has the field `{name}` {len(contents)} times")
        return contents[0]

    def text(self, name: str) -> str:
        """The only part of that name, as text."""
        try:
            return self.file(name).decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"the field `{name}` is not text in UTF-8") from None

    def dataset(self) -> UploadedDataset:
        """The dataset. Raises InvalidRequest if there is none."""
        for content in self._contents.get(DATASET, []):
            if isinstance(content, UploadedDataset):
                return content
        raise InvalidRequest(f"the form has no field `{DATASET}`")


class _ArrivingField:
    """A part other than the dataset, while it arrives."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []

    async def add(self, pieces: list[bytes]) -> None:
        self._pieces += pieces
        self.size += sum(map(len, pieces))

    async def complete(self) -> bytes:
        return b"".join(self._pieces)


async def read_form(request: Request, limits: Mapping[str, int], total_bytes: int) -> Form:
    """Read the parts that `limits` names, each up to its number of bytes. A dataset is hashed while it arrives."""
    if not is_multipart(request):
        raise UnsupportedMediaType("send a form (multipart/form-data)")
    form = Form()
    arriving: ArrivingDataset | _ArrivingField | None = None
    async for part in parts(request, total_bytes):
        if part.name in limits:
            arriving = arriving or (ArrivingDataset() if part.name == DATASET else _ArrivingField())
            await arriving.add(part.pieces)
            if arriving.size > limits[part.name]:
                raise PayloadTooLarge(f"the field `{part.name}` is larger than {limits[part.name]} bytes")
            if part.ended:
                form.add(part.name, await arriving.complete())
                arriving = None
        part.pieces.clear()
    return form
