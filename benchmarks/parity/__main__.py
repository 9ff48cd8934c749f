"""`make parity` compares converted networks with MXNet 1.9.1, prints the tables, and fails if a bound is exceeded."""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.parity import boxes, numbers, recording, speed, table
from benchmarks.parity.oracle_client import Oracle
from benchmarks.parity.pictures import as_input, crops, frames, open_detector, photographs
from benchmarks.parity.speed import Work
from benchmarks.parity.subjects import Subject, initialized_subjects, made_subjects, real_subjects
from tests.support.data import ROOT

Pictures = dict[str, np.ndarray]


def main() -> int:
    """Return 0 if every bound holds."""
    asked = _arguments()
    if not (ROOT / "legacy-models").is_dir():
        print(f"{ROOT}/legacy-models is not here (see FACE_IDENTITY_TEST_DATA)", file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory() as folder,
        Oracle(asked.oracle, Path(folder), speed.THREADS, fused=not asked.record) as oracle,
    ):
        print(f"MXNet {oracle.versions['mxnet']}, NumPy {oracle.versions['numpy']}\n", flush=True)
        if asked.record:
            recording.record(oracle, Path(folder))
            return 0
        return _run(oracle, Path(folder), asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oracle", type=Path, required=True, help="Python that has mxnet 1.9.1")
    parser.add_argument("--speed", action="store_true", help="also measure faces a second")
    parser.add_argument("--write", action="store_true", help="write the tables into the documentation")
    parser.add_argument("--record", action="store_true", help="only record MXNet's outputs for the ordinary tests")
    return parser.parse_args()


def _run(oracle: Oracle, workplace: Path, asked: argparse.Namespace) -> int:
    subjects = [*real_subjects(workplace), *initialized_subjects(workplace, oracle), *made_subjects(workplace)]
    pictures = photographs()
    aligned = crops(pictures, open_detector(subjects[0].model))
    agreements = [found for subject in subjects for found in _compared(oracle, subject, pictures, aligned)]
    detectors = [subject for subject in subjects if subject.task == "detection" and subject.weights == "real"]
    box_agreements = [boxes.compare_boxes(oracle, subject, pictures) for subject in detectors]
    text = table.numbers_table(agreements) + "\n" + table.boxes_table(box_agreements)
    _show("parity", text, asked.write)
    if asked.speed:
        work = [(subject, each) for subject in subjects for each in _work(subject, pictures, aligned, box_agreements)]
        speeds = [speed.measure(oracle, subject, each) for subject, each in work]
        _show("speed", table.speed_table(speeds), asked.write)
    held = all(found.holds for found in agreements) and all(found.holds for found in box_agreements)
    return 0 if held else 1


def _compared(oracle: Oracle, subject: Subject, pictures: Pictures, aligned: np.ndarray) -> list[numbers.Agreement]:
    if subject.task != "detection":
        return numbers.compare(oracle, subject, {"1 crop": aligned[:1], "8 crops": aligned})
    eight = frames(pictures, 480, 640)
    inputs = {"1 x 480 x 640": eight[:1], "8 x 480 x 640": eight, "1 x 251 x 333": frames(pictures, 251, 333)[:1]}
    return numbers.compare(oracle, subject, inputs)


def _work(subject: Subject, pictures: Pictures, aligned: np.ndarray, found: list[boxes.BoxAgreement]) -> list[Work]:
    """Crops alone and eight at a time; photographs at their own sizes, or for random weights one small image."""
    if subject.task != "detection":
        return [Work("1 crop", {"crops": aligned[:1]}, 1), Work("8 crops", {"crops": aligned}, len(aligned))]
    for agreement in found:
        if agreement.subject == subject:
            inputs = {name: as_input([picture]) for name, picture in pictures.items()}
            return [Work(f"{agreement.pictures} photographs, {agreement.faces} faces", inputs, agreement.faces)]
    return [Work("480 x 640, one face", {"frame": frames(pictures, 480, 640)[:1]}, 1)]


def _show(name: str, text: str, write: bool) -> None:
    print(text, flush=True)
    if write:
        table.write_into_page(name, text)


if __name__ == "__main__":
    sys.exit(main())
