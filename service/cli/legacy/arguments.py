"""The legacy programs' command lines: every flag of the README and of the programs themselves."""

import argparse
from collections.abc import Sequence


def processor_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Of `processor`."""
    parser = _parser("processor", "Find the faces of a picture, or recognize them.")
    parser.add_argument("type", choices=["detection", "recognition"], help="find faces, or say whose they are too")
    parser.add_argument("-i", "--image", metavar="IMG", help="the picture; without it the camera takes one")
    parser.add_argument("-d", "--dataset", metavar="DATASET", help="the dataset file; recognition needs one")
    parser.add_argument("-s", "--show", "--show_img", action="store_true", help="show the picture with the faces drawn")
    parser.add_argument("-p", "--print", "--print_output", dest="prints", action="store_true", help="print the faces")
    parser.add_argument("-t", "--video_test", dest="live", action="store_true", help="go on with the camera; q quits")
    _add_common(parser)
    _add_camera(parser)
    found = parser.parse_args(arguments)
    if found.type == "recognition" and not found.dataset:
        parser.error("for recognition a dataset is needed: -d DATASET")
    return found


def encoder_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Of `encoder`. `-p` with a path is the folder, as the README has it; without one it prints."""
    parser = _parser("encoder", "Make a dataset of pictures of people.")
    parser.add_argument("-i", "--input_data", metavar="JSON", help='{"person1": ["a.jpg", "b.jpg"], ...}')
    parser.add_argument(
        "-ip", "--images_path", "--images-path", metavar="FOLDER", help="a folder of folders, one a person"
    )
    parser.add_argument(
        "-p", "--print", dest="prints", nargs="?", const=True, metavar="FOLDER", help="print; with a path: as -ip"
    )
    parser.add_argument("-o", "--out", metavar="OUT", help="the file to write")
    parser.add_argument(
        "--shape",
        choices=["encoder", "dataset"],
        default="encoder",
        help="encoder: as the program wrote it; dataset: as the README shows it. Recognition reads both",
    )
    _add_common(parser)
    found = parser.parse_args(arguments)
    if isinstance(found.prints, str):
        found.images_path, found.prints = found.images_path or found.prints, False
    if (found.input_data is None) == (found.images_path is None):
        parser.error("pictures are needed, either -i JSON or -p FOLDER")
    return found


def capture_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Of `capture`."""
    parser = _parser("capture", "Take pictures of people: s saves, g brightens, n is the next person, q quits.")
    parser.add_argument("-p", "--path", metavar="FOLDER", required=True, help="where the people's folders are made")
    parser.add_argument("-n", "--name", metavar="NAME", help="the first person; without it you are asked")
    _add_camera(parser)
    return parser.parse_args(arguments)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(f"face-identity legacy {name}", description=description, allow_abbrev=False)


def _add_common(parser: argparse.ArgumentParser) -> None:
    device = "-1: CPU, 0..N: GPU (default: %s_LOAD_DEVICE)"
    parser.add_argument("-dd", "--det-dev", type=int, metavar="N", help="device of detection, " + device % "DETECTOR")
    parser.add_argument(
        "-rd", "--rek-dev", type=int, metavar="N", help="device of recognition, " + device % "RECOGNIZER"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    parser.add_argument(
        "--encoder", metavar="NAME", help="as in ENCODER (default: LEGACY_ENCODER, else the first of ENCODER)"
    )


def _add_camera(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--camera", default="0", metavar="N", help="number of the camera, or a video's file or address")
