"""`make parity`: compares converted networks with MXNet 1.9.1, prints the tables, and fails where a bound is broken."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.parity import boxes, numbers, pictures, recording, speed, table
from benchmarks.parity.oracle_client import Oracle
from benchmarks.parity.subjects import Subject, initialized_subjects, made_subjects, real_subjects
from tests.support.data import ROOT


def main() -> int:
    """0 where every bound holds."""
    asked = _arguments()
    if not (ROOT / "legacy-models").is_dir():
        print(f"left out: {ROOT}/legacy-models is not here (see FACE_IDENTITY_TEST_DATA)", file=sys.stderr)
        return 1
    threads = len(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory() as folder,
        Oracle(asked.oracle, Path(folder), threads, fused=not asked.record) as oracle,
    ):
        print(f"MXNet {oracle.versions['mxnet']}, NumPy {oracle.versions['numpy']}, {threads} threads\n", flush=True)
        if asked.record:
            recording.record(oracle, Path(folder))
            return 0
        subjects = _subjects(oracle, Path(folder))
        agreed = _compare(oracle, subjects, asked.write)
        if asked.speed:
            _measure(oracle, subjects, threads, asked.write)
    return 0 if agreed else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oracle", type=Path, required=True, help="Python that has mxnet 1.9.1")
    parser.add_argument("--speed", action="store_true", help="also measure faces a second")
    parser.add_argument("--write", action="store_true", help="write the tables into the documentation")
    parser.add_argument("--record", action="store_true", help="only record MXNet's outputs for the ordinary tests")
    return parser.parse_args()


def _subjects(oracle: Oracle, workplace: Path) -> list[Subject]:
    initialize = lambda **request: oracle.ask("initialize", **request)  # noqa: E731 (one line, one use)
    return [
        *real_subjects(workplace),
        *initialized_subjects(workplace, initialize),
        *made_subjects(workplace),
    ]


def _compare(oracle: Oracle, subjects: list[Subject], write: bool) -> bool:
    photographs = pictures.photographs()
    crops = pictures.crops(photographs, subjects[0].model)
    frames = pictures.frames(photographs, 480, 640)
    odd = pictures.frames(photographs, 251, 333)[:1]
    agreements, box_agreements = [], []
    for subject in subjects:
        if subject.task == "detection":
            inputs = {"1 x 480 x 640": frames[:1], "8 x 480 x 640": frames, "1 x 251 x 333": odd}
        else:
            inputs = {"1 crop": crops[:1], "8 crops": crops}
        agreements += numbers.compare(oracle, subject, inputs)
        if subject.task == "detection" and subject.weights == "real":
            box_agreements.append(boxes.compare_boxes(oracle, subject, photographs))
    text = table.numbers_table(agreements) + "\n" + table.boxes_table(box_agreements)
    _show("parity", text, write)
    return all(agreement.holds for agreement in (*agreements, *box_agreements))


def _measure(oracle: Oracle, subjects: list[Subject], threads: int, write: bool) -> None:
    photographs = pictures.photographs()
    crops = pictures.crops(photographs, subjects[0].model)
    whole = {name: picture.transpose(2, 0, 1)[None].astype("float32") for name, picture in photographs.items()}
    speeds = []
    for subject in subjects:
        if subject.task == "detection":
            inputs = whole if subject.weights == "real" else {"frame": pictures.frames(photographs, 480, 640)[:1]}
            label = f"{len(inputs)} photographs" if subject.weights == "real" else "1 x 480 x 640, a face each"
            faces = _faces(subject, photographs) if subject.weights == "real" else 1
            speeds.append(speed.measure(oracle, subject, inputs, label, faces, threads))
        else:
            speeds.append(speed.measure(oracle, subject, {"crops": crops[:1]}, "1 crop", 1, threads))
            speeds.append(speed.measure(oracle, subject, {"crops": crops}, "8 crops", len(crops), threads))
    _show("speed", table.speed_table(speeds), write)


def _show(name: str, text: str, write: bool) -> None:
    print(text, flush=True)
    if write:
        table.write_into_page(name, text)


if __name__ == "__main__":
    sys.exit(main())
