"""The demo, with the encoder that a newcomer gets."""

import pytest

from service.cli.demo_pictures import seated_at
from service.cli.demo_report import Probe
from service.encoder.contract import Box
from tests.cli.conftest import Command


def test_the_demo_recognizes_everyone_and_no_stranger_and_does_it_again(bare_command: Command) -> None:
    first = bare_command("demo", "--encoder", "dlib", "--json")
    assert first.code == 0
    told = first.json
    assert (told["right"], len(told["enrolled"]), len(told["strangers"])) == (True, 6, 2)
    assert {probe["picture"] for probe in told["probes"]} == {
        "group photo",
        "mirrored",
        "darker",
        "half size",
        "JPEG 20",
    }
    assert {probe["person"] for probe in told["probes"] if probe["recognized"] is None} == set(told["strangers"])
    again = bare_command("demo", "--encoder", "dlib", "--json").json
    assert again["probes"] == told["probes"]
    counts = bare_command("galleries", "show", "demo", "--tenant", "demo", "--json").json
    assert (counts["people"], counts["faces"]) == (6, 6)


def test_an_encoder_that_finds_no_face_fails_the_demo(bare_command: Command) -> None:
    done = bare_command("demo", "--encoder", "fake")
    assert done.code == 4
    assert "no-face-found" in done.err


@pytest.mark.parametrize(
    ("is_enrolled", "recognized", "similarity", "is_right"),
    [
        (True, "Ada", 0.8, True),
        (True, "Bob", 0.8, False),
        (True, None, 0.2, False),
        (True, None, None, False),
        (False, None, 0.2, True),
        (False, None, None, False),
        (False, "Bob", 0.8, False),
    ],
)
def test_a_probe_is_right_when_everyone_is_who_they_are(
    is_enrolled: bool, recognized: str | None, similarity: float | None, is_right: bool
) -> None:
    assert Probe("Ada", is_enrolled, "mirrored", recognized, similarity).is_right is is_right


def test_a_face_is_the_person_s_on_whose_seat_it_is() -> None:
    assert seated_at(Box(65, 284, 169, 388)) == "Player 1"
    assert seated_at(Box(600, 700, 650, 750)) is None
