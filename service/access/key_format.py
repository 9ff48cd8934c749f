"""The format of API keys: making, parsing and digesting them. Only the SHA-256 of a key is stored.

A key reads `fik_TENANT_SECRET`: the tenant's number in base 36, then 256 random bits and a checksum in base 62. The
prefix and the checksum let leak scanners find keys. The tenant's number lets authentication look up the key under
row-level security. The key of the platform operator reads `fio_SECRET`.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass

PREFIX = "fik"
OPERATOR_PREFIX = "fio"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 43  # 62 ** 43 > 2 ** 256
_CHECKSUM_LENGTH = 6  # 62 ** 6 > 2 ** 32
_SECRET = rf"([0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
_FORM = re.compile(rf"{PREFIX}_([1-9a-z][0-9a-z]{{0,6}})_{_SECRET}")
_OPERATOR_FORM = re.compile(rf"{OPERATOR_PREFIX}_{_SECRET}")


@dataclass(frozen=True)
class PresentedKey:
    """A key with a valid format and checksum. Whether it is live, only the database knows."""

    tenant_id: int
    digest: bytes


def new_key(tenant_id: int) -> str:
    """A new key for a tenant. It is shown once and never stored."""
    return _with_secret(f"{PREFIX}_{_base(tenant_id, 36).lower()}_")


def new_operator_key() -> str:
    """A new key of the platform operator. It is shown once and never stored."""
    return _with_secret(f"{OPERATOR_PREFIX}_")


def digest_of(key: str) -> bytes:
    """The stored form of a key. A random secret of 256 bits needs no slow hash."""
    return hashlib.sha256(key.encode()).digest()


def hint_of(key: str) -> str:
    """The part of a key that lists show, so that its owner recognizes it."""
    opening, _, secret = key.rpartition("_")
    return f"{opening}_{secret[:4]}…"


def read_key(text: str) -> PresentedKey | None:
    """Tenant and digest of a well-formed key, or None. Does not ask the database."""
    match = _FORM.fullmatch(text)
    if match is None or not _checksum_fits(text):
        return None
    tenant_id = int(match.group(1), 36)
    return PresentedKey(tenant_id, digest_of(text)) if tenant_id < 1 << 31 else None


def read_operator_key(text: str) -> bytes | None:
    """Digest of a well-formed operator key, or None."""
    return digest_of(text) if _OPERATOR_FORM.fullmatch(text) and _checksum_fits(text) else None


def _with_secret(opening: str) -> str:
    body = opening + _base(secrets.randbits(256), 62).rjust(_SECRET_LENGTH, "0")
    return body + _checksum(body)


def _checksum_fits(text: str) -> bool:
    return _checksum(text[:-_CHECKSUM_LENGTH]) == text[-_CHECKSUM_LENGTH:]


def _checksum(body: str) -> str:
    return _base(zlib.crc32(body.encode()), 62).rjust(_CHECKSUM_LENGTH, "0")


def _base(number: int, base: int) -> str:
    digits = ""
    while number:
        number, remainder = divmod(number, base)
        digits = _DIGITS[remainder] + digits
    return digits or "0"
