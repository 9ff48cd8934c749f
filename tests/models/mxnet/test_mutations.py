"""Whatever is wrong with a model folder, converting it gives one clear error."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from service.errors import InvalidModel
from service.models.mxnet.conversion import convert_folder
from tests.models.mxnet import families
from tests.models.mxnet.making import Making
from tests.models.mxnet.mutations import mutate

CASES = 200
"""For each family. 42 of 44,820 mutations gave an IndexError before."""


@pytest.mark.parametrize(
    "network", [families.mobilefacenet(8, 16), families.genderage(), families.retinaface_mnet(8)], ids=["a", "b", "c"]
)
def test_a_mutated_model_is_converted_or_refused(network: tuple[Making, list[int]], tmp_path: Path) -> None:
    made, outputs = network
    source = made.save(tmp_path / "whole", outputs)
    results = Counter[str]()
    for seed in range(CASES):
        mutate(random.Random(seed), source, tmp_path / "mutated")  # noqa: S311 - no secret depends on it
        try:
            convert_folder(tmp_path / "mutated", tmp_path / "out")
        except InvalidModel as error:
            assert error.detail, seed  # noqa: PT017 - either outcome is right, a third is not
            results["refused"] += 1
        else:
            results["converted"] += 1
    assert results["refused"] > CASES / 10
    assert results["converted"] > CASES / 10


@pytest.mark.parametrize(
    ("operator", "what"),
    [("BatchNorm", "input 0"), ("Activation", "0 inputs"), ("Concat", "input 0")],
)
def test_a_node_without_inputs_is_refused_by_name(operator: str, what: str, tmp_path: Path) -> None:
    made, outputs = families.mobilefacenet(8, 16)
    source = made.save(tmp_path / "source", outputs)
    symbol = source / "model-symbol.json"
    network = json.loads(symbol.read_bytes())
    node = next(node for node in network["nodes"] if node["op"] not in {"null", "FullyConnected"} and node["inputs"])
    node["op"], node["inputs"] = operator, []
    node["attrs"] = {"act_type": "relu"} if operator == "Activation" else {}
    symbol.write_text(json.dumps(network))
    with pytest.raises(InvalidModel, match=rf"node {node['name']} \({operator}\).*{what}"):
        convert_folder(source, tmp_path / "out")


@pytest.mark.parametrize("operator", ["LeakyReLU", "BatchNorm"])
def test_channels_of_a_tensor_without_channels_are_refused(operator: str, tmp_path: Path) -> None:
    made, outputs = families.mobilefacenet(8, 16)
    source = made.save(tmp_path / "source", outputs)
    symbol = source / "model-symbol.json"
    network = json.loads(symbol.read_bytes())
    place = next(number for number, node in enumerate(network["nodes"]) if node["op"] == operator)
    node, before = network["nodes"][place], network["nodes"][network["nodes"][place]["inputs"][0][0]]
    before["op"], before["attrs"], before["inputs"] = "Reshape", {"shape": "(-1,)"}, before["inputs"][:1]
    symbol.write_text(json.dumps(network))
    with pytest.raises(InvalidModel, match=f"node {node['name']}.*its input has 1 dimensions, but channels are needed"):
        convert_folder(source, tmp_path / "out")
