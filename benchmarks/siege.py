"""`python -m benchmarks.siege` (`make siege`) measures an honest client while another tenant attacks the server.

The honest client recognizes an image and an embedding in turn, first alone and then beside each attack. Both share the
machine, so the attacker runs at the lowest priority: its own work would otherwise be measured as the server's.
The honest client's p95 should stay below twice its p95 alone, without an error, and the server's memory below a budget.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import msgspec

from benchmarks.machine import keep, table
from service.access.names import SCOPES
from service.encoder.fake_pictures import draw_people
from tests.support.attacks import ATTACKS, DIMENSION, GALLERY, NUMBERS, Attacker, prepare, rows
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

ALONE = "alone"
LARGEST_RATIO = 2.0
BUDGET_BYTES = 1536 * 1024 * 1024
"""Of the server's process with the default encoder and the default settings."""
HEAD_START_SECONDS = 3.0
ATTACKERS_PEOPLE, HONEST_PEOPLE = 20_000, 2_000
PATIENCE_SECONDS = 60.0
"""After which the honest client counts an error."""


@dataclass(frozen=True)
class Siege:
    """What the honest client saw beside one attack. Seconds are those of one image and one embedding."""

    attack: str
    p50_ms: float
    p95_ms: float
    errors: int
    peak_bytes: int
    attacker: dict[str, Any]

    def row(self, alone_ms: float) -> list[object]:
        """A row of the table."""
        answers = ", ".join(f"{number} x {status}" for status, number in self.attacker.get("statuses", {}).items())
        memory = f"{self.peak_bytes / 2**20:.0f}"
        return [self.attack, self.p50_ms, self.p95_ms, self.p95_ms / alone_ms, self.errors, memory, answers]


def main() -> int:
    """Measure, print a table and save the figures. Returns 1 if a bound does not hold."""
    asked = _arguments()
    if asked.attack:
        return asyncio.run(_attack(asked.attack, Attacker(*asked.target)))
    settings = {"ENCODER": asked.encoder, "LOGGER_LEVEL": "ERROR"} | _settings_of(asked.tree)
    with tempfile.TemporaryDirectory(prefix="face-identity-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user
        server = ServerProcess(Path(folder), **settings)
        try:
            sieges = list(_sieges(server, asked))
        finally:
            server.close()
    return _report(sieges, asked.name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="images and embeddings that the honest client sends")
    parser.add_argument("--encoder", default="dlib")
    parser.add_argument("--only", nargs="*", default=list(ATTACKS), help="names of attacks")
    parser.add_argument("--tree", help="a checkout of another version whose server is measured")
    parser.add_argument("--name", default="siege", help="name of the file under benchmarks/results")
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("target", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args()


def _settings_of(tree: str | None) -> dict[str, str]:
    return {} if tree is None else {"PYTHONPATH": str(Path(tree).resolve())}


def _sieges(server: ServerProcess, asked: argparse.Namespace) -> Iterator[Siege]:
    operator_key = msgspec.json.decode(server.command("operator", "keys", "create", "--json"))["key"]
    server.start()
    with server.client(operator_key) as operator:
        keys = [
            operator.post("/v1/operator/tenants", json={"name": name}).json()["key"] for name in ("honest", "other")
        ]
    attacker = Attacker(server.url, keys[1], operator_key)
    asyncio.run(prepare(attacker, ATTACKERS_PEOPLE))
    with server.client(keys[0]) as client:
        client.timeout = httpx.Timeout(PATIENCE_SECONDS)
        honest = Honest(client, asked.encoder)
        yield _measured(ALONE, server, honest, asked.rounds, {})
        for name in asked.only:
            with _attacked(name, attacker) as tally:
                time.sleep(HEAD_START_SECONDS)
                found = _measured(name, server, honest, asked.rounds, tally)
            print(found.attack, f"p95 {found.p95_ms:.0f} ms, {found.errors} errors", file=sys.stderr, flush=True)
            yield found
            wait_until(honest.is_answered)


def _probe_key(server: ServerProcess, operator_key: str, tenant: str) -> str:
    """Make a tenant and return a key of it that may send embeddings."""
    with server.client(operator_key) as operator:
        first = operator.post("/v1/operator/tenants", json={"name": tenant}).json()["key"]
    with server.client(first) as owner:
        answer = owner.post("/v1/keys", json={"name": "probes", "scopes": list(SCOPES)})
        return str(answer.json()["key"]) if answer.is_success else first  # an earlier version has no such scope


class Honest:
    """A client that recognizes one image and one embedding after the other in galleries of its own."""

    def __init__(self, client: httpx.Client, encoder: str) -> None:
        self._client = client
        self._image = draw_people(["Ada"]) if encoder == "fake" else _photograph()
        self._probe = {"embedding": msgspec.json.decode(rows(1))["embedding"]}
        client.post("/v1/galleries", json={"name": GALLERY})
        space = f"external:honest:{DIMENSION}"
        client.post("/v1/galleries", json={"name": NUMBERS, "embedding_space": space}).raise_for_status()
        client.post(f"/v1/galleries/{NUMBERS}/import", content=rows(HONEST_PEOPLE)).raise_for_status()
        wait_until(lambda: client.get(f"/v1/galleries/{NUMBERS}").json()["people"] == HONEST_PEOPLE)

    def ask(self) -> bool:
        """Recognize an image and an embedding. Returns False if an answer is missing or is an error."""
        try:
            image = self._client.post(f"/v1/galleries/{GALLERY}/recognize", files={"image": ("a.png", self._image)})
            probe = self._client.post(f"/v1/galleries/{NUMBERS}/recognize", json=self._probe)
        except httpx.HTTPError:
            return False
        return image.status_code == probe.status_code == 200

    def is_answered(self) -> bool:
        """Return True once the server has recovered."""
        return self.ask()


def _measured(name: str, server: ServerProcess, honest: Honest, rounds: int, tally: dict[str, Any]) -> Siege:
    _of_process(server, "clear_refs").write_text("5")
    seconds, errors = [], 0
    for _ in range(rounds):
        began = time.perf_counter()
        errors += not honest.ask()
        seconds.append(time.perf_counter() - began)
    cuts = statistics.quantiles(seconds, n=20)
    return Siege(name, 1000 * cuts[9], 1000 * cuts[18], errors, _peak_bytes(server), tally)


def _peak_bytes(server: ServerProcess) -> int:
    lines = _of_process(server, "status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _of_process(server: ServerProcess, file: str) -> Path:
    return Path(f"/proc/{server.number}/{file}")


@contextlib.contextmanager
def _attacked(name: str, attacker: Attacker) -> Iterator[dict[str, Any]]:
    """Run the attack in another process; its answers are in the result after the end."""
    command = [sys.executable, "-m", "benchmarks.siege", "--attack", name]
    target = [attacker.url, attacker.key, attacker.operator_key]
    process = subprocess.Popen([*command, *target], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    tally: dict[str, Any] = {}
    try:
        yield tally
    finally:
        output, _ = process.communicate()
        tally |= msgspec.json.decode(output or b"{}")


async def _attack(name: str, attacker: Attacker) -> int:
    """Attack until the standard input ends."""
    os.nice(19)
    attack = asyncio.ensure_future(ATTACKS[name](attacker))
    end = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([attack, end], return_when=asyncio.FIRST_COMPLETED)
    if attack.done():
        attack.result()
    attack.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await attack
    print(msgspec.json.encode(asdict(attacker.tally)).decode())
    return 0


def _photograph() -> bytes:
    return files("service.cli").joinpath("data", "eileen-collins.png").read_bytes()


def _report(sieges: list[Siege], name: str) -> int:
    alone = sieges[0].p95_ms
    heads = ["attack", "p50 (ms)", "p95 (ms)", "times alone", "errors", "memory (MiB)", "attacker's answers"]
    print(table(heads, [siege.row(alone) for siege in sieges]))
    keep(name, {"sieges": [asdict(siege) for siege in sieges], "budget_bytes": BUDGET_BYTES})
    held = [
        siege.errors == 0 and siege.p95_ms <= LARGEST_RATIO * alone and siege.peak_bytes <= BUDGET_BYTES
        for siege in sieges[1:]
    ]
    print(f"{sum(held)} of {len(held)} attacks stayed within the bounds.")
    return int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
