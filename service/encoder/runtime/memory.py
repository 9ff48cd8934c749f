"""Lack of memory: which errors mean it, and how the memory of a failed image is given back.

An error keeps the frames that it went through, and these keep the pixels of the image. Such a cycle lives until the
garbage collector runs, which a server does seldom. Six images of 40 megapixels at the limit of the memory left a
server that failed for every later image, so the cycles are collected at once, and the C library returns its free memory
to the system.
"""

import contextlib
import ctypes
import gc
import sys

import cv2
import numpy as np

_CV_NO_MEMORY = -4  # cv::Error::StsNoMem
_WORDS = ("bad alloc", "bad_alloc", "allocate memory", "insufficient memory", "can't start new thread")
_BYTES_PER_PIXEL = 6
"""A decoded image and one copy of it."""


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether the error means that memory, or a thread's stack, could not be allocated: each library has its own."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, cv2.error):
        return error.code == _CV_NO_MEMORY
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def release_memory() -> None:
    """Collect what failed work has left, and return free memory to the system. Call it without a reference to the
    error.
    """
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # only in glibc


def has_memory_for(pixels: int) -> bool:
    """Whether an image of this number of pixels can be decoded now. Asks for addresses only."""
    try:
        np.empty(pixels * _BYTES_PER_PIXEL, np.uint8)
    except MemoryError:
        return False
    return True
