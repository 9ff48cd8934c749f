"""The extra `video`: PyAV and aiortc. A plain installation is without them, because PyAV brings FFmpeg's libraries."""

import importlib.util

from service.errors import VideoNotInstalled


def require_video() -> None:
    """Raise VideoNotInstalled if the packages of the extra are missing."""
    if any(importlib.util.find_spec(name) is None for name in ("av", "aiortc")):
        raise VideoNotInstalled("install the extra: pip install 'face-identity-service[video]'")
