"""The reader of `symbol.json`: every spelling gives the same network, and damage is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidModel
from service.models.mxnet.symbol import Symbol, read_symbol
from tests.models.mxnet.families import genderage
from tests.models.mxnet.making import Spelling
from tests.support.data import data_path


def _network(symbol: Symbol) -> list[tuple[Any, ...]]:
    """Return the nodes with their inputs by name, which must not depend on the spelling."""
    return sorted(
        (node.name, node.op, tuple(node.attributes.items()), tuple(symbol.nodes[s.node].name for s in node.inputs))
        for node in symbol.nodes
    )


def _written(folder: Path, spelling: Spelling) -> Path:
    made, outputs = genderage()
    path = folder / "model-symbol.json"
    path.write_bytes(made.symbol(outputs, spelling))
    return path


@pytest.mark.parametrize("spelling", ["attr", "param"])
def test_old_file_formats_describe_the_same_network(tmp_path: Path, spelling: Spelling) -> None:
    today = read_symbol(_written(tmp_path, "attrs"))
    old = read_symbol(_written(tmp_path, spelling))
    assert _network(old) == _network(today)
    assert [old.nodes[source.node].name for source in old.outputs] == ["fc1"]


def test_auxiliary_inputs_that_an_old_file_omits_are_added(tmp_path: Path) -> None:
    path = _written(tmp_path, "param")
    assert b"moving_mean" not in path.read_bytes()
    symbol = read_symbol(path)
    norm = next(node for node in symbol.nodes if node.name == "bn1")
    assert [symbol.nodes[source.node].name for source in norm.inputs[3:]] == ["bn1_moving_mean", "bn1_moving_var"]


def test_published_symbols_are_read() -> None:
    symbol = read_symbol(data_path("legacy-models", "arcface_r34", "model-symbol.json"))
    assert sum(node.op == "Convolution" for node in symbol.nodes) == 37
    assert symbol.nodes[symbol.outputs[0].node].name == "fc1"


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda written: written.pop(key)


def _set_input(written: dict[str, Any]) -> None:
    written["nodes"][1]["inputs"] = [[7, 0, 0]]


def _set_head(written: dict[str, Any]) -> None:
    written["heads"] = [[100000, 0, 0]]


def _name_twice(written: dict[str, Any]) -> None:
    written["nodes"][2]["name"] = written["nodes"][1]["name"]


def _break_node(written: dict[str, Any]) -> None:
    written["nodes"][3]["name"] = 5


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (_without("nodes"), "not an MXNet symbol file: .*nodes"),
        (_without("heads"), "not an MXNet symbol file: .*heads"),
        (_set_input, r"node 1 \(_minusscalar0\) refers to node 7, which does not come before it"),
        (_set_head, "an output refers to node 100000"),
        (_name_twice, "two nodes have the name _minusscalar0"),
        (_break_node, r"not an MXNet symbol file: .*nodes\[3\]\.name"),
    ],
)
def test_the_error_names_the_damage(tmp_path: Path, damage: Callable[[dict[str, Any]], None], what: str) -> None:
    path = _written(tmp_path, "attrs")
    written = json.loads(path.read_bytes())
    damage(written)
    path.write_text(json.dumps(written))
    with pytest.raises(InvalidModel, match=r"model-symbol\.json") as caught:
        read_symbol(path)
    assert caught.match(what)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"nodes": 1, "heads": []}'])
def test_a_file_that_is_not_a_symbol_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model-symbol.json"
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match="is not an MXNet symbol"):
        read_symbol(path)


def test_the_error_about_a_missing_symbol_names_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"model-symbol\.json cannot be read"):
        read_symbol(tmp_path / "model-symbol.json")


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_truncated_symbol_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "cut-symbol.json"
    made, outputs = genderage()
    whole = made.symbol(outputs)
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InvalidModel, match=r"cut-symbol\.json"):
        read_symbol(path)
