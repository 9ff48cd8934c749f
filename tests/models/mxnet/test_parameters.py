"""The reader of `.params` files against files that MXNet wrote, files of every header, and damaged ones."""

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidModel
from service.models.mxnet.parameters import open_parameters
from tests.models.mxnet.making import Header, array_header, write_parameters

DATA = Path(__file__).parent / "data"
ARRAYS = {
    "arg:weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "aux:mean": np.array([0.5], dtype=np.float32),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model-0000.params"


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_files_that_mxnet_wrote_are_read(version: str) -> None:
    parameters = open_parameters(DATA / f"saved_{version}.params")
    assert set(parameters.names) == {"ones", "halves", "doubles", "counts"}
    assert np.array_equal(parameters.read("ones"), np.ones((2, 3)))
    assert np.array_equal(parameters.read("halves"), [0.5, -0.25])
    assert parameters.read("doubles") == np.float32(1e-3)


@pytest.mark.parametrize("header", ["legacy", "v1", "v2", "v3"])
def test_every_header_is_read_and_prefixes_are_left_out(path: Path, header: Header) -> None:
    write_parameters(path, ARRAYS, header)
    parameters = open_parameters(path)
    assert parameters.names == ("weight", "mean")
    assert parameters.shape("weight") == (2, 3, 4)
    assert np.array_equal(parameters.read("weight"), ARRAYS["arg:weight"])
    assert parameters.read("mean").dtype == np.float32


def test_an_array_without_a_shape_is_not_a_parameter(path: Path) -> None:
    empty = struct.pack("<IiI", 0xF993FAC9, 0, 0)
    named = struct.pack("<QQ", 1, 4) + b"none"
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + empty + named)
    assert "none" not in open_parameters(path)


def test_an_array_without_dimensions_is_a_number(path: Path) -> None:
    write_parameters(path, {"arg:number": np.array(2.5, dtype=np.float32)}, "v3")
    number = open_parameters(path).read("number")
    assert number.shape == ()
    assert number == 2.5


def test_integers_are_refused_as_weights(path: Path) -> None:
    write_parameters(path, {"arg:counts": np.arange(3, dtype=np.int64)})
    with pytest.raises(InvalidModel, match="counts holds int64"):
        open_parameters(path).read("counts")


def test_the_error_about_a_missing_parameter_names_it_and_its_file(path: Path) -> None:
    write_parameters(path, ARRAYS)
    with pytest.raises(InvalidModel, match=r"model-0000\.params: there is no parameter bias"):
        open_parameters(path).read("bias")


@pytest.mark.parametrize("header", ["legacy", "v1", "v2", "v3"])
def test_a_truncated_file_is_refused_with_the_position(path: Path, header: Header) -> None:
    write_parameters(path, ARRAYS, header)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidModel, match=r"model-0000\.params, byte [0-9]+: "):
            open_parameters(path)


def _changed(whole: bytes, at: int, number: int, form: str = "<Q") -> bytes:
    return whole[:at] + struct.pack(form, number) + whole[at + struct.calcsize(form) :]


@pytest.mark.parametrize(
    ("at", "number", "form", "what"),
    [
        (0, 0x113, "<Q", "not an MXNet parameter file"),
        (16, 2**40, "<Q", "the number of arrays is 1099511627776, more than the file can hold"),
        (28, 1, "<i", "array 0 is sparse"),
        (32, 4000, "<i", "array 0 has 4000 dimensions"),
        (36, 2**60, "<q", "reaches beyond the end of the file"),
        (36, -1, "<q", "negative dimension"),
        (68, 77, "<i", "array 0 has the unknown type 77"),
    ],
)
def test_the_error_names_the_damage(path: Path, at: int, number: int, form: str, what: str) -> None:
    write_parameters(path, ARRAYS)
    path.write_bytes(_changed(path.read_bytes(), at, number, form))
    with pytest.raises(InvalidModel, match=what):
        open_parameters(path)


def test_as_many_names_as_arrays_are_required(path: Path) -> None:
    write_parameters(path, {})
    path.write_bytes(path.read_bytes()[:-8] + struct.pack("<QQ", 1, 1) + b"x")
    with pytest.raises(InvalidModel, match="1 names for 0 arrays"):
        open_parameters(path)


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"arg:twice": np.ones(1, np.float32), "aux:twice": np.ones(1, np.float32)}, "the name twice occurs twice"),
        ({"x" * 5000: np.ones(1, np.float32)}, "name 0 has a length of 5000 bytes"),
    ],
)
def test_impossible_names_are_refused(path: Path, arrays: dict[str, np.ndarray], what: str) -> None:
    write_parameters(path, arrays)
    with pytest.raises(InvalidModel, match=what):
        open_parameters(path)


def test_bytes_after_the_last_name_are_refused(path: Path) -> None:
    write_parameters(path, ARRAYS)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InvalidModel, match="there are bytes after the last name"):
        open_parameters(path)


def test_a_name_that_is_not_text_is_refused(path: Path) -> None:
    values = np.ones(1, np.float32)
    array = array_header(values, "v2") + values.tobytes()
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + array + struct.pack("<QQ", 1, 2) + b"\xff\xfe")
    with pytest.raises(InvalidModel, match="name 0 is not UTF-8"):
        open_parameters(path)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot be read"):
        open_parameters(tmp_path)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_every_damage_is_refused_with_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.params"
    write_parameters(path, ARRAYS, data.draw(st.sampled_from(["legacy", "v1", "v2", "v3"])))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(InvalidModel):
        parameters = open_parameters(path)
        for name in parameters.names:
            parameters.read(name)
