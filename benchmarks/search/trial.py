"""One engine and one crowd in a separate process: found mates, speed and size."""

import json
import multiprocessing
import multiprocessing.connection
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.search.crowds import COSINES
from benchmarks.search.peers import peer
from benchmarks.search.peers.contract import Peer
from benchmarks.search.workload import Workload, open_workload

THRESHOLD = 0.4
BUDGET_SECONDS = 60.0
"""For the searches of one engine: a slow engine gets fewer probes, and the result contains their number."""
RATE_SECONDS = 5.0
CLIENTS = 8
LEAST_PROBES = 8


def run_trial(name: str, workload: Path, folder: Path) -> dict[str, Any]:
    """Return the figures of one engine, or {"error": ...} if it could not run."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, name, str(workload), str(folder)))
    process.start()
    theirs.close()
    try:
        result: dict[str, Any] = json.loads(ours.recv())
    except EOFError:
        result = {"error": "the process ended without an answer"}
    process.join()
    shutil.rmtree(folder, ignore_errors=True)
    return {"engine": name} | result


def _child(connection: multiprocessing.connection.Connection, name: str, workload: str, folder: str) -> None:
    try:
        result = measure(name, open_workload(Path(workload)), Path(folder))
    except ImportError as error:
        result = {"error": f"not installed ({error.name}): pip install -e '.[bench]'"}
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    connection.send(json.dumps(result))


def measure(name: str, workload: Workload, folder: Path) -> dict[str, Any]:
    """Build, search, insert, restart."""
    engine = peer(name)
    if workload.crowd.size > engine.most_faces:
        return {"error": f"left out above {engine.most_faces:,} faces"}
    folder.mkdir(parents=True, exist_ok=True)
    before = _own_memory()
    started = time.perf_counter()
    engine.build(workload, folder)
    result: dict[str, Any] = {"note": engine.note, "build_seconds": time.perf_counter() - started}
    try:
        result |= _ask(engine, workload)
        memory = engine.bytes_in_memory()
        held = _own_memory() - before if memory is None else memory
        result["bytes_a_face_in_memory"] = held / workload.crowd.size
        disk = engine.bytes_on_disk()
        result |= {"bytes_on_disk": disk, "bytes_a_face_on_disk": disk["total"] / workload.crowd.size}
        if "without originals" in disk:
            result["bytes_a_face_searched"] = disk["without originals"] / workload.crowd.size
        probes = workload.probes.embeddings
        result["rate_1_client"] = engine.rate(probes, 1, RATE_SECONDS)
        result[f"rate_{CLIENTS}_clients"] = engine.rate(probes, CLIENTS, RATE_SECONDS)
        result[f"rate_{CLIENTS}_programs"] = engine.rate_of_programs(probes, CLIENTS, RATE_SECONDS)
        result["restart_seconds"] = _restart(engine, workload)
        result["findable_seconds"] = _insert(engine, workload)
    finally:
        engine.close()
    return result


def _ask(engine: Peer, workload: Workload) -> dict[str, Any]:
    probes = workload.probes
    first = engine.ask(probes.embeddings[:LEAST_PROBES])
    each = sum(answer.seconds for answer in first) / LEAST_PROBES
    asked = int(min(len(probes.mates), max(LEAST_PROBES, BUDGET_SECONDS / each)))
    answers = engine.ask(probes.embeddings[:asked])
    people = np.array([answer.person for answer in answers])
    similarities = np.array([answer.similarity for answer in answers])
    seconds = np.array([answer.seconds for answer in answers])
    return {
        "probes": asked,
        "p50_ms": 1e3 * float(np.percentile(seconds, 50)),
        "p99_ms": 1e3 * float(np.percentile(seconds, 99)),
        "found": _found(workload, people),
        "false_accepts": _accepted(workload, similarities),
    }


def _found(workload: Workload, people: npt.NDArray[np.int64]) -> dict[str, list[int]]:
    """Return by cosine how many mates were found, and how many the exact search returns first."""
    asked = len(people)
    mates = workload.probes.mates[:asked]
    named = mates == workload.people[:asked]
    found = {}
    for cosine in COSINES:
        expected = named & (workload.probes.cosines[:asked] == np.float32(cosine))
        found[str(cosine)] = [int(np.sum(expected & (people == mates))), int(np.sum(expected))]
    return found


def _accepted(workload: Workload, similarities: npt.NDArray[np.float64]) -> list[int]:
    """Return the number of strangers at the threshold or above: by this engine, by the exact search; and of all."""
    strangers = workload.probes.mates[: len(similarities)] < 0
    exact = workload.similarities[: len(similarities)] >= THRESHOLD
    return [
        int(np.sum(strangers & (similarities >= THRESHOLD))),
        int(np.sum(strangers & exact)),
        int(np.sum(strangers)),
    ]


def _insert(engine: Peer, workload: Workload) -> float:
    """Measure from the call that enrolls a new person to the answer that returns this person."""
    person = int(workload.crowd.people[-1]) + 1
    direction = np.random.default_rng(77).standard_normal(workload.dimension)
    embedding = (direction / np.linalg.norm(direction)).astype(np.float32)
    began = time.perf_counter()
    engine.insert(embedding, person)
    while engine.search(embedding)[0] != person:
        if time.perf_counter() - began > BUDGET_SECONDS:
            return float("inf")
    return time.perf_counter() - began


def _restart(engine: Peer, workload: Workload) -> float:
    began = time.perf_counter()
    engine.reopen()
    engine.search(workload.probes.embeddings[0])
    return time.perf_counter() - began


def _own_memory() -> int:
    """Return the resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
