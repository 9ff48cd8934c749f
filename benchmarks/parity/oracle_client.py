"""Starts MXNet's side as a process under its own Python, and exchanges one JSON request a line and arrays in files."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.parity.subject import Subject

Arrays = Mapping[str, np.ndarray]


class Oracle:
    """MXNet under `python`. Use it as a context manager; the process ends with the context."""

    def __init__(self, python: Path, workplace: Path, threads: int, *, fused: bool = True) -> None:
        surroundings = {"MXNET_SUBGRAPH_VERBOSE": "0", "OMP_NUM_THREADS": str(threads)}
        if not fused:
            # If layers are fused, 1.9.1 cannot bind a layer that is read twice.
            surroundings["MXNET_SUBGRAPH_BACKEND"] = "NONE"
        self._log = workplace / "mxnet.log"  # MXNet logs every symbol that it upgrades.
        script = Path(__file__).with_name("mxnet_side") / "oracle.py"
        self._process = subprocess.Popen(
            [python, "-W", "ignore", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
            env=os.environ | surroundings,
        )
        self._workplace = workplace
        self.versions = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def ask(self, command: str, **request: object) -> dict[str, Any]:
        """Return the answer to a request. Raises RuntimeError with MXNet's own traceback if it failed."""
        assert self._process.stdin is not None
        spelled = {name: str(value) if isinstance(value, Path) else value for name, value in request.items()}
        self._process.stdin.write(json.dumps({"command": command, **spelled}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def run(self, command: str, subject: Subject, inputs: Arrays, **request: object) -> dict[str, np.ndarray]:
        """Return the arrays that a command computes from the inputs with the subject's network."""
        outputs = self._workplace / "outputs.npz"
        self.ask(command, **self.network(subject, inputs), outputs=outputs, **request)
        with np.load(outputs) as found:
            return dict(found)

    def network(self, subject: Subject, inputs: Arrays) -> dict[str, object]:
        """Return the part of a request that names the network and its inputs."""
        stored = self._workplace / "inputs.npz"
        np.savez(stored, **inputs)
        cut = None if subject.task == "detection" else "fc1"
        return {"symbol": subject.symbol, "parameters": subject.parameters, "output": cut, "inputs": stored}

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"MXNet's side ended without an answer:\n{self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"MXNet's side failed:\n{answer['error']}")
        return answer
