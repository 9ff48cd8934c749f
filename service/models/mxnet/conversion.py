"""Converts MXNet model folders. Each becomes a folder with `model.onnx` and `model.json`, whole or not at all.

A folder is written beside its final place and then renamed.
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
    """A converted network and its folder."""

    folder: Path
    manifest: Manifest
    source: Path


@dataclass(frozen=True)
class FailedModel:
    """A model folder that could not be converted, and the reason."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class ConversionReport:
    """The result for every model folder. At least one was converted."""

    converted: tuple[ConvertedModel, ...]
    failed: tuple[FailedModel, ...]


def convert_folder(folder: Path, out: Path | None = None) -> ConversionReport:
    """Convert the model in `folder`, or in each of its subfolders, into folders of the same names inside `out`.

    `out` defaults to `FOLDER-onnx`. Raises InvalidModel if nothing could be converted; it names the file and the node,
    parameter or byte at fault.
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
    """Convert the model in `source` into a folder of its name inside `target`, replacing an older conversion."""
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
        raise InvalidModel(f"{folder} is not a folder")
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
        # InsightFace 0.1.5 passes RGB pixels of 0..255 to every network. Networks that scale them do so inside.
        input=Input(name=INPUT, height=height, width=width, channels="RGB", mean=0.0, scale=1.0),
        outputs=network.outputs,
        embedding_dimension=network.numbers if network.task == "recognition" else None,
        landmark_scale=_landmark_scale(name) if network.task == "detection" else None,
    )


def _landmark_scale(name: str) -> float:
    """Only the name identifies the one detector whose landmarks are five times as large (InsightFace's kind
    `net3l`).
    """
    return 0.2 if _LARGE_LANDMARKS.search(name) else 1.0


def _put_in_place(written: Path, place: Path, older: Path) -> None:
    """Two renames inside one folder. If the second one fails, the older conversion is restored."""
    if not place.exists():
        written.rename(place)
        return
    place.rename(older)
    try:
        written.rename(place)
    except OSError:
        older.rename(place)
        raise
