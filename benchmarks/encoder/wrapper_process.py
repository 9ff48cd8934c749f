"""Starts `benchmarks.encoder.wrapper` as a process and stops it."""

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx


@contextlib.contextmanager
def wrapper(pack: Path) -> Iterator[str]:
    """Return its address when it answers."""
    with tempfile.TemporaryDirectory() as root:
        shutil.copytree(pack, Path(root) / "models" / "pack")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.encoder.wrapper", root, str(port)])
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert process.poll() is None, "the wrapper did not start"
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the wrapper is not ready after a minute")
