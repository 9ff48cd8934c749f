"""The command lines of the legacy programs: every flag of their README and of the programs themselves."""

import argparse
from collections.abc import Sequence


def processor_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of `processor`."""
    parser = _parser("processor", "Find the faces of an image, or recognize them.")
    parser.add_argument("type", choices=["detection", "recognition"], help="find faces, or recognize them too")
    parser.add_argument("-i", "--image", metavar="IMG", help="the image (default: one image of the camera)")
    parser.add_argument("-d", "--dataset", metavar="DATASET", help="the dataset file; required for recognition")
    parser.add_argument("-s", "--show", "--show_img", action="store_true", help="show the image with the faces drawn")
    parser.add_argument("-p", "--print", "--print_output", dest="prints", action="store_true", help="print the faces")
    parser.add_argument(
        "-t", "--video_test", dest="live", action="store_true", help="continue with the camera; q quits"
    )
    _add_common(parser)
    _add_camera(parser)
    options = parser.parse_args(arguments)
    if options.type == "recognition" and not options.dataset:
        parser.error("recognition needs a dataset: -d DATASET")
    return options


def encoder_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of `encoder`. As in the README, `-p FOLDER` names the folder and a bare `-p` prints."""
    parser = _parser("encoder", "Create a dataset from images of people.")
    parser.add_argument("-i", "--input_data", metavar="JSON", help='{"person1": ["a.jpg", "b.jpg"], ...}')
    parser.add_argument(
        "-ip", "--images_path", "--images-path", metavar="FOLDER", help="a folder with one folder per person"
    )
    parser.add_argument(
        "-p",
        "--print",
        dest="prints",
        nargs="?",
        const=True,
        metavar="FOLDER",
        help="print the dataset; with a path: the same as -ip",
    )
    parser.add_argument("-o", "--out", metavar="OUT", help="the file to write")
    parser.add_argument(
        "--shape",
        choices=["encoder", "dataset"],
        default="encoder",
        help="encoder: the format that the program wrote; dataset: the format of the README. Recognition reads both",
    )
    _add_common(parser)
    options = parser.parse_args(arguments)
    if isinstance(options.prints, str):
        options.images_path, options.prints = options.images_path or options.prints, False
    if (options.input_data is None) == (options.images_path is None):
        parser.error("give images either with -i JSON or with -p FOLDER")
    return options


def capture_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of `capture`."""
    parser = _parser("capture", "Take images of people: s saves, g brightens, n is the next person, q quits.")
    parser.add_argument("-p", "--path", metavar="FOLDER", required=True, help="the folder of the people's folders")
    parser.add_argument("-n", "--name", metavar="NAME", help="the first person (default: ask)")
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
    parser.add_argument(
        "--camera", default="0", metavar="N", help="number of the camera, or file or address of a video"
    )
