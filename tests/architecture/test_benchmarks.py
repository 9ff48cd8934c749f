"""Every benchmark can be imported: renaming something that a benchmark uses fails here and not at `make bench`."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# These run in environments of their own, with MXNet or with another engine.
ELSEWHERE = {"mxnet_side"}
MODULES = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for path in (REPOSITORY / "benchmarks").rglob("*.py")
    if path.name not in {"__init__.py", "__main__.py"} and not ELSEWHERE & set(path.parts)
)
# Packages of the extra `bench`, which the tests do without.
OPTIONAL = {"faiss", "hnswlib", "pgvector", "usearch", "qdrant_client", "psutil", "matplotlib"}


def test_every_benchmark_can_be_imported() -> None:
    """In one fresh process: a benchmark may set threads or signals at import."""
    program = f"""
import importlib
failed = []
for name in {MODULES!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in {OPTIONAL!r}:
            failed.append(f"{{name}}: {{error}}")
    except Exception as error:
        failed.append(f"{{name}}: {{type(error).__name__}}: {{error}}")
print("\\n".join(failed))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.strip() == ""
