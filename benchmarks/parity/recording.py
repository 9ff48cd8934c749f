"""Records MXNet's outputs on tiny networks, and files that MXNet itself wrote, for the ordinary tests."""

from pathlib import Path

import numpy as np

from benchmarks.parity.oracle_client import Oracle
from tests.models.mxnet.cases import CASES, RECORDED, Case

SAVED = {
    "ones": np.ones((2, 3), dtype=np.float32),
    "halves": np.array([0.5, -0.25], dtype=np.float16),
    "doubles": np.array([[1e-3]], dtype=np.float64),
    "counts": np.array([1, -2, 3], dtype=np.int32),
}


def record(oracle: Oracle, workplace: Path) -> None:
    """Write `recorded.npz`, `saved_v2.params` and `saved_v3.params` into the tests' data folder."""
    found: dict[str, np.ndarray] = {}
    for name, make in CASES.items():
        for key, values in _record_case(oracle, make(), workplace / name).items():
            found[f"{name}/{key}"] = values
    RECORDED.parent.mkdir(exist_ok=True)
    np.savez_compressed(RECORDED, **found)
    inputs = workplace / "saved.npz"
    np.savez(inputs, **SAVED)
    for version, numpy_shapes in (("v2", False), ("v3", True)):
        path = RECORDED.with_name(f"saved_{version}.params")
        oracle.ask("save", inputs=inputs, parameters=path, numpy_shapes=numpy_shapes)
    for path in sorted(RECORDED.parent.iterdir()):
        print(f"{path.name}: {path.stat().st_size} bytes")


def _record_case(oracle: Oracle, case: Case, folder: Path) -> dict[str, np.ndarray]:
    """Return the case's parameters, and MXNet's outputs when it reads the files that the tests make."""
    case.made.save(folder, case.outputs, case.spelling, case.header)
    inputs, outputs = folder / "inputs.npz", folder / "outputs.npz"
    np.savez(inputs, input=case.input)
    files = {"symbol": folder / "model-symbol.json", "parameters": folder / "model-0000.params"}
    oracle.ask("forward", **files, inputs=inputs, outputs=outputs)
    with np.load(outputs) as results:
        computed = {f"output/{key.removeprefix('input/')}": values for key, values in results.items()}
    parameters = {f"parameter/{name}": values for name, values in case.made.parameters.items()}
    return {**parameters, **computed}
