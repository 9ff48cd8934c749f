"""Model folders to converted folders: the written files, the refusals by name, and no half-written folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from service.errors import InvalidModel
from service.models.mxnet.conversion import convert_folder
from service.models.mxnet.manifest import read_manifest
from tests.models.mxnet import families
from tests.models.mxnet.making import Making, write_parameters
from tests.support.data import data_path


def _save(folder: Path, network: tuple[Making, list[int]] | None = None) -> Path:
    made, outputs = network or families.mobilefacenet(8, 16)
    return made.save(folder, outputs)


def test_a_recognizer_is_described_by_its_manifest(tmp_path: Path) -> None:
    source = _save(tmp_path / "arcface_mfn_v1")
    report = convert_folder(source)
    assert [model.folder for model in report.converted] == [tmp_path / "arcface_mfn_v1-onnx" / "arcface_mfn_v1"]
    written = json.loads((report.converted[0].folder / "model.json").read_text())
    assert written["task"] == "recognition"
    assert written["input"] == {
        "name": "data", "height": 112, "width": 112, "channels": "RGB", "mean": 0.0, "scale": 1.0
    }  # fmt: skip
    assert written["outputs"] == [{"name": "fc1", "meaning": "embedding", "stride": None}]
    assert written["embedding_dimension"] == 16
    assert written["symbol"]["file"] == "model-symbol.json"
    assert len(written["parameters"]["sha256"]) == 64
    assert str(tmp_path) not in json.dumps(written)


def test_a_detector_takes_any_number_of_images_of_any_size(tmp_path: Path) -> None:
    source = _save(tmp_path / "retinaface_mnet025_v1", families.retinaface_mnet(8))
    folder = convert_folder(source, tmp_path / "out").converted[0].folder
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    for shape in ((1, 3, 64, 64), (3, 3, 33, 97), (1, 3, 1, 1)):
        maps = session.run(None, {"data": np.zeros(shape, dtype=np.float32)})
        assert [len(each) for each in maps] == [shape[0]] * 9
        assert [each.shape[1] for each in maps] == [4, 8, 20] * 3
        rows = [-(-shape[2] // stride) for stride in (32, 16, 8)]
        assert [maps[3 * level].shape[2] for level in range(3)] == rows


@pytest.mark.parametrize(
    ("name", "scale"), [("retinaface_mnet025_v1", 1.0), ("retinaface_mnet025_v2", 0.2), ("retinaface_r50_v1", 1.0)]
)
def test_the_scale_of_landmarks_depends_on_the_name_of_the_detector(tmp_path: Path, name: str, scale: float) -> None:
    source = _save(tmp_path / name, families.retinaface_mnet(8))
    manifest = convert_folder(source, tmp_path / "out").converted[0].manifest
    assert (manifest.landmark_scale, manifest.embedding_dimension) == (scale, None)


def test_a_network_for_gender_and_age_has_no_embedding(tmp_path: Path) -> None:
    source = _save(tmp_path / "genderage_v1", families.genderage(4))
    manifest = convert_folder(source, tmp_path / "out").converted[0].manifest
    assert (manifest.task, manifest.embedding_dimension) == ("genderage", None)


def test_the_training_head_behind_the_embedding_is_cut_off(tmp_path: Path) -> None:
    """A network as it leaves training: its loss head, with an operator that the converter does not know, is cut off."""
    made, outputs = families.mobilefacenet(8, 16)
    label = made.variable("softmax_label")
    head = made.op("SoftmaxOutput", "softmax", [made.fully_connected("fc7", outputs[0], (16, 50)), label])
    folder = convert_folder(_save(tmp_path / "trained", (made, [head])), tmp_path / "out").converted[0].folder
    graph = onnx.load(folder / "model.onnx").graph
    assert [output.name for output in graph.output] == ["fc1"]
    assert not any("fc7" in tensor.name for tensor in graph.initializer)


def test_the_parameters_of_the_last_epoch_are_used(tmp_path: Path) -> None:
    source = _save(tmp_path / "model")
    shutil.copyfile(source / "model-0000.params", source / "model-0012.params")
    manifest = convert_folder(source, tmp_path / "out").converted[0].manifest
    assert manifest.parameters.file == "model-0012.params"


def test_every_model_of_a_folder_is_converted_or_reported_as_failed(tmp_path: Path) -> None:
    zoo = tmp_path / "models"
    for name in ("arcface_r100_v1", "retinaface_r50_v1", "broken"):
        _save(zoo / name)
    (zoo / "broken" / "model-0000.params").unlink()
    (zoo / "notes").mkdir()
    report = convert_folder(zoo, tmp_path / "out")
    assert [model.manifest.name for model in report.converted] == ["arcface_r100_v1", "retinaface_r50_v1"]
    assert [model.folder.name for model in report.failed] == ["broken"]
    assert "model-0000.params are missing" in report.failed[0].reason


def test_a_second_conversion_replaces_the_first_with_the_same_files(tmp_path: Path) -> None:
    source, out = _save(tmp_path / "model"), tmp_path / "out"
    first = convert_folder(source, out).converted[0].manifest
    (out / "model" / "left behind").touch()
    again = convert_folder(source, out).converted[0].manifest
    assert again == first
    assert sorted(path.name for path in out.rglob("*")) == ["model", "model.json", "model.onnx"]


@pytest.mark.parametrize(("name", "task"), [("retinaface_mnet025", "detection"), ("genderage", "genderage")])
def test_published_weights_are_converted(tmp_path: Path, name: str, task: str) -> None:
    report = convert_folder(data_path("legacy-models", name), tmp_path)
    assert report.converted[0].manifest.task == task


Breakage = Callable[[Path], None]


def _edit(old: str, new: str) -> Breakage:
    def change(folder: Path) -> None:
        path = folder / "model-symbol.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def _drop(name: str) -> Breakage:
    def change(folder: Path) -> None:
        made, _ = families.mobilefacenet(8, 16)
        kept = {f"arg:{key}": values for key, values in made.parameters.items() if key != name}
        write_parameters(folder / "model-0000.params", kept)

    return change


def _reshape(name: str, values: np.ndarray) -> Breakage:
    def change(folder: Path) -> None:
        made, _ = families.mobilefacenet(8, 16)
        made.parameters[name] = values
        write_parameters(folder / "model-0000.params", made.parameters)

    return change


def _cut(folder: Path) -> None:
    path = folder / "model-0000.params"
    path.write_bytes(path.read_bytes()[:-1000])


def _norm_attribute(value: str) -> Breakage:
    return _edit('"eps": "2e-05", "fix_gamma": "False"', f'"eps": "2e-05", {value}')


BREAKAGES: list[tuple[Breakage, str]] = [
    (_edit('"op": "elemwise_add"', '"op": "Correlation"'), r"node _plus0: the operator Correlation is not supported"),
    (_edit('"kernel":', '"wormhole": "3", "kernel":'), r"node conv_1_conv2d \(Convolution\): the attribute wormhole=3"),
    (_edit('"kernel": "(3, 3)"', '"kernel": "(3, 3, 3)"'), r"conv_1_conv2d \(Convolution\): kernel has 3 numbers"),
    (_edit('"kernel": "(3, 3)"', '"kernel": "(3, x)"'), r"conv_1_conv2d \(Convolution\): kernel=x is not an integer"),
    (_edit('"num_filter": "8", ', ""), r"conv_1_conv2d \(Convolution\): the attribute num_filter is missing"),
    (_edit('"no_bias": "True"', '"no_bias": "maybe"'), r"no_bias=maybe is neither True nor False"),
    (_edit('"no_bias": "True"', '"no_bias": "False"'), r"conv_1_conv2d \(Convolution\): it has 2 inputs, but 3"),
    (_edit('"no_bias": "True"', '"no_bias": "True", "layout": "NHWC"'), r"layout=NHWC is not supported"),
    (_edit('"num_group": "8"', '"num_group": "3"'), r"dw_conv2d \(Convolution\): num_group=3 does not divide"),
    (_norm_attribute('"fix_gamma": "False", "axis": "3"'), r"conv_1_batchnorm \(BatchNorm\): only axis=1"),
    (_norm_attribute('"fix_gamma": "False", "output_mean_var": "True"'), r"output_mean_var is not supported"),
    (_norm_attribute('"fix_gamma": "False", "spin": "1"'), r"conv_1_batchnorm \(BatchNorm\): the attribute spin=1"),
    (_edit('"eps": "2e-05"', '"eps": "tiny"'), r"conv_1_batchnorm \(BatchNorm\): eps=tiny is not a number"),
    (
        _edit('"act_type": "prelu"', '"act_type": "rrelu"'),
        r"conv_1_relu \(LeakyReLU\): act_type=rrelu is not supported",
    ),
    (_edit('"name": "fc1"', '"name": "fc2"'), r"is an unknown network"),
    (_drop("proj_conv2d_weight"), r"there is no parameter proj_conv2d_weight"),
    (
        _reshape("pre_fc1_bias", np.ones(3)),
        r"pre_fc1 \(FullyConnected\): the parameter pre_fc1_bias has the shape \(3,\)",
    ),
    (_reshape("conv_1_relu_gamma", np.ones(5)), r"conv_1_relu_gamma has 5 numbers, but there are 8 channels"),
    (_reshape("fc1_moving_var", -np.ones(16)), r"fc1_moving_var holds a variance that is not positive"),
    (_reshape("pre_fc1_weight", np.ones((16, 9))), r"the converted network is not valid"),
    (_cut, r"model-0000\.params, byte [0-9]+: "),
]


@pytest.mark.parametrize(("broken", "what"), BREAKAGES, ids=[what[:40] for _, what in BREAKAGES])
def test_the_error_names_the_fault_and_nothing_is_half_written(tmp_path: Path, broken: Breakage, what: str) -> None:
    source, out = _save(tmp_path / "model"), tmp_path / "out"
    convert_folder(source, out)
    older = read_manifest(out / "model")
    broken(source)
    with pytest.raises(InvalidModel, match=what):
        convert_folder(source, out)
    assert read_manifest(out / "model") == older
    assert [path.name for path in out.iterdir()] == ["model"]


@pytest.mark.parametrize("anchors", [2, 6])
def test_a_detector_with_other_anchors_is_refused(tmp_path: Path, anchors: int) -> None:
    made, outputs = families.retinaface_mnet(8)
    for number in outputs[1::3]:
        name, node = made.nodes[number]["name"], made.nodes[number]
        node["attrs"]["num_filter"] = str(4 * anchors // 2 if anchors == 6 else 4)
        channels = int(node["attrs"]["num_filter"])
        made.parameters[f"{name}_weight"] = np.zeros((channels, 8, 1, 1), dtype=np.float32)
        made.parameters[f"{name}_bias"] = np.zeros(channels, dtype=np.float32)
    with pytest.raises(InvalidModel, match=r"face_rpn_bbox_pred_stride32 has [0-9]+ channels, but 8 are supported"):
        convert_folder(_save(tmp_path / "model", (made, outputs)), tmp_path / "out")


def test_a_detector_without_landmarks_is_refused(tmp_path: Path) -> None:
    made, outputs = families.retinaface_mnet(8)
    kept = [output for position, output in enumerate(outputs) if position % 3 != 2]
    with pytest.raises(InvalidModel, match="a RetinaFace detector has 9 outputs"):
        convert_folder(_save(tmp_path / "model", (made, kept)), tmp_path / "out")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="holds no MXNet model"):
        convert_folder(tmp_path)
    with pytest.raises(InvalidModel, match="is not a folder"):
        convert_folder(tmp_path / "nowhere")


def test_two_symbols_in_one_folder_are_refused(tmp_path: Path) -> None:
    source = _save(tmp_path / "model")
    shutil.copyfile(source / "model-symbol.json", source / "other-symbol.json")
    with pytest.raises(InvalidModel, match="holds 2 files NAME-symbol"):
        convert_folder(source)


def test_the_error_names_an_output_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidModel, match="cannot be written"):
        convert_folder(_save(tmp_path / "model"), tmp_path / "file")


@pytest.mark.parametrize("harm", ["manifest", "network", "missing"])
def test_a_converted_folder_that_was_changed_is_refused(tmp_path: Path, harm: str) -> None:
    folder = convert_folder(_save(tmp_path / "model"), tmp_path / "out").converted[0].folder
    if harm == "manifest":
        (folder / "model.json").write_text('{"format": "something else"}')
    elif harm == "network":
        (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-4])
    else:
        (folder / "model.onnx").unlink()
    with pytest.raises(InvalidModel, match=r"model\.(json|onnx)"):
        read_manifest(folder)
