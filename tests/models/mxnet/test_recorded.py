"""Converted networks against the outputs of MXNet 1.9.1 for the same files, operator by operator."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from service.models.mxnet.onnx_writer import OPSET, write_onnx
from service.models.mxnet.parameters import open_parameters
from service.models.mxnet.symbol import read_symbol
from service.models.mxnet.translation import translate
from tests.models.mxnet.cases import CASES, FAMILIES, OPERATORS, RECORDED, Case

TOLERANCE = 1e-4
"""Of the largest number of an output, as in make parity; measured: 1.1e-5 behind a softmax, less elsewhere."""


def _recorded(name: str, kind: str) -> dict[str, np.ndarray]:
    start = f"{name}/{kind}/"
    with np.load(RECORDED) as recorded:
        return {key.removeprefix(start): recorded[key] for key in recorded.files if key.startswith(start)}


def _converted(name: str, folder: Path) -> tuple[Case, Path]:
    case = CASES[name]()
    assert set(case.made.parameters) == set(_recorded(name, "parameter")), "record anew: make parity PARITY=--record"
    case.made.parameters = _recorded(name, "parameter")
    case.made.save(folder, case.outputs, case.spelling, case.header)
    symbol = read_symbol(folder / "model-symbol.json")
    graph = translate(symbol, open_parameters(folder / "model-0000.params"), symbol.outputs, None)
    write_onnx(graph, name, folder / "model.onnx")
    return case, folder / "model.onnx"


@pytest.mark.parametrize("name", CASES)
def test_a_converted_network_computes_what_mxnet_computed(name: str, tmp_path: Path) -> None:
    case, path = _converted(name, tmp_path)
    outputs = onnxruntime.InferenceSession(path).run(None, {"data": case.input})
    expected = _recorded(name, "output")
    assert len(outputs) == len(expected) == len(case.outputs)
    for number, output in enumerate(outputs):
        wanted = expected[str(number)]
        assert output.shape == wanted.shape
        node = case.made.nodes[case.outputs[number]]["name"]
        assert np.abs(output - wanted).max() <= TOLERANCE * np.abs(wanted).max(), f"output {number} ({node})"


def test_the_recorded_outputs_differ() -> None:
    """The comparison above relies on this: an operator that is left out would change the numbers."""
    for name in (*OPERATORS, *FAMILIES):
        for number, output in _recorded(name, "output").items():
            assert np.isfinite(output).all()
            assert np.ptp(output) > 1e-3, f"{name} output {number}"


def test_a_batch_norm_is_removed_only_if_no_result_changes(tmp_path: Path) -> None:
    _, path = _converted("batch_norms", tmp_path)
    left = {node.name for node in onnx.load(path).graph.node if node.op_type == "BatchNormalization"}
    assert left == {"shared_bn", "first_bn", "lone_bn"}


def test_arcface_keeps_only_the_batch_norms_in_front_of_padding(tmp_path: Path) -> None:
    _, path = _converted("arcface", tmp_path)
    left = [node.name for node in onnx.load(path).graph.node if node.op_type == "BatchNormalization"]
    assert left == [*(f"stage{s}_unit{u}_bn1" for s, u in ((1, 1), (2, 1), (2, 2), (3, 1), (4, 1))), "bn1"]


def test_the_file_is_what_onnx_itself_would_write(tmp_path: Path) -> None:
    """Our writer writes weights one by one; if protobuf reads and writes the file again, the model is the same."""
    _, path = _converted("genderage", tmp_path)
    model = onnx.load(path)
    assert onnx.load_from_string(model.SerializeToString()) == model
    assert [opset.version for opset in model.opset_import] == [OPSET]
    onnx.checker.check_model(model, full_check=True)
