"""Converts MXNet model folders: each becomes a folder of its own with `model.onnx` and `model.json`, or nothing at all.

A folder is written beside its final place and renamed into it, so that no half of one is ever seen.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidModel
from service.models.mxnet.manifest import (
    MODEL_FILE,
    Input,
    Manifest,
    described,
    write_manifest,
)
from service.models.mxnet.networks import Network, check_outputs, classify_network
from service.models.mxnet.onnx_writer import write_onnx
from service.models.mxnet.parameters import open_parameters
from service.models.mxnet.symbol import read_symbol
from service.models.mxnet.translation import INPUT, translate

_SYMBOL_ENDING = "-symbol.json"
_PARAMETERS = re.compile(r"-([0-9]{4})\.params")
_SAFE_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_LARGE_LANDMARKS = re.compile(r"mnet_?0?\.?25_v2")


@dataclass(frozen=True)
class ConvertedModel:
    """One network that was converted, and the folder that holds it now."""

    folder: Path
    manifest: Manifest
    source: Path


@dataclass(frozen=True)
class FailedModel:
    """One model folder that was left as it is, and why."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class ConversionReport:
    """What became of every model folder that was found; at least one was converted."""

    converted: tuple[ConvertedModel, ...]
    failed: tuple[FailedModel, ...]


def convert_folder(folder: Path, out: Path | None = None) -> ConversionReport:
    """Converts the model in `folder`, or in each of its subfolders, into folders of the same names inside `out`.

    `out` is `FOLDER-onnx` where nothing is said. Raises InvalidModel where nothing could be converted, naming the
    file and the node, parameter or byte that is at fault.
    """
    folders = _model_folders(folder)
    target = out or folder.resolve().with_name(f"{folder.resolve().name}-onnx")
    converted, failed = [], []
    for source in folders:
        try:
            converted.append(convert_model(source, target))
        except InvalidModel as error:
            failed.append(FailedModel(source, error.detail))
    if not converted:
        raise InvalidModel("; ".join(f"{model.folder.name}: {model.reason}" for model in failed))
    return ConversionReport(tuple(converted), tuple(failed))


def convert_model(source: Path, target: Path) -> ConvertedModel:
    """Converts the one model in `source` into a folder of its name inside `target`, replacing an older one."""
    symbol_path, parameters_path = _source_files(source)
    symbol, parameters = read_symbol(symbol_path), open_parameters(parameters_path)
    network = classify_network(symbol)
    graph = translate(symbol, parameters, network.sources, network.size)
    check_outputs(network, graph.output_channels)
    name = _SAFE_NAME.sub("-", source.resolve().name)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=target) as workplace:
            written = Path(workplace) / name
            written.mkdir()
            write_onnx(graph, name, written / MODEL_FILE)
            manifest = _manifest(name, network, written / MODEL_FILE, symbol_path, parameters_path)
            write_manifest(manifest, written)
            _put_in_place(written, target / name, Path(workplace) / "older")
    except OSError as error:
        raise InvalidModel(f"{target} cannot be written: {error.strerror}") from None
    return ConvertedModel(target / name, manifest, source)


def _model_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InvalidModel(f"{folder} is no folder")
    for candidates in ([folder], sorted(path for path in folder.iterdir() if path.is_dir())):
        found = [path for path in candidates if any(path.glob(f"*{_SYMBOL_ENDING}"))]
        if found:
            return found
    raise InvalidModel(f"{folder} holds no MXNet model: no NAME{_SYMBOL_ENDING} in it or in a folder inside it")


def _source_files(folder: Path) -> tuple[Path, Path]:
    symbols = sorted(folder.glob(f"*{_SYMBOL_ENDING}"))
    if len(symbols) != 1:
        raise InvalidModel(f"{folder} holds {len(symbols)} files NAME{_SYMBOL_ENDING}; one is needed")
    prefix = symbols[0].name.removesuffix(_SYMBOL_ENDING)
    epochs = [path for path in folder.iterdir() if _is_parameters(path.name, prefix)]
    if not epochs:
        raise InvalidModel(f"{folder}: the parameters {prefix}-0000.params are missing")
    return symbols[0], max(epochs, key=lambda path: path.name)  # the last epoch, as a training run leaves them


def _is_parameters(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and _PARAMETERS.fullmatch(name.removeprefix(prefix)) is not None


def _manifest(name: str, network: Network, model: Path, symbol: Path, parameters: Path) -> Manifest:
    height, width = network.size or (None, None)
    return Manifest(
        format="face-identity-model-1",
        name=name,
        task=network.task,
        model=described(model),
        symbol=described(symbol),
        parameters=described(parameters),
        # InsightFace 0.1.5 gives every network RGB pixels of 0..255; those that scale them do so inside.
        input=Input(name=INPUT, height=height, width=width, channels="RGB", mean=0.0, scale=1.0),
        outputs=network.outputs,
        embedding_dimension=network.numbers if network.task == "recognition" else None,
        landmark_scale=_landmark_scale(name) if network.task == "detection" else None,
    )


def _landmark_scale(name: str) -> float:
    """Only its name tells the one detector whose landmarks are five times as large (InsightFace's kind `net3l`)."""
    return 0.2 if _LARGE_LANDMARKS.search(name) else 1.0


def _put_in_place(written: Path, place: Path, older: Path) -> None:
    """Two renames inside one folder; where the second fails, the older conversion comes back."""
    if not place.exists():
        written.rename(place)
        return
    place.rename(older)
    try:
        written.rename(place)
    except OSError:
        older.rename(place)
        raise
