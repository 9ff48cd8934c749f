"""A body that is silent, slow or endless is refused. The seconds are numbers of the test, and no clock is read."""

from service.errors import RequestTimedOut
from service.http.pace import LEAST_BYTES_PER_SECOND, Pace

SILENCE, WHOLE = 30.0, 300.0
MEBIBYTE = 1024 * 1024


def seconds_until_refused(pace: Pace, *, every: float, size: int) -> float:
    """Count a piece of `size` bytes each `every` seconds, until the body is refused."""
    waited = 0.0
    while waited < 10 * WHOLE:
        waited += every
        try:
            pace.count(every, size)
        except RequestTimedOut:
            return waited
    raise AssertionError("the body is never refused")


def test_a_body_that_trickles_is_refused_after_the_allowed_silence() -> None:
    assert seconds_until_refused(Pace(SILENCE, WHOLE), every=1, size=1) == SILENCE + 1


def test_a_fast_beginning_does_not_pay_for_a_slow_rest() -> None:
    pace = Pace(SILENCE, WHOLE)
    pace.count(1, 127 * MEBIBYTE)
    assert seconds_until_refused(pace, every=1, size=1) < 2 * SILENCE + SILENCE / 10 + 1


def test_a_body_of_the_least_speed_arrives_until_its_deadline() -> None:
    pace = Pace(SILENCE, WHOLE)
    assert seconds_until_refused(pace, every=1, size=LEAST_BYTES_PER_SECOND) == WHOLE + 1


def test_a_pause_that_is_shorter_than_the_silence_costs_nothing_if_the_speed_is_right() -> None:
    pace = Pace(SILENCE, WHOLE)
    for _ in range(9):
        pace.count(29, 29 * LEAST_BYTES_PER_SECOND)


def test_the_server_waits_for_a_piece_at_most_until_the_deadline_of_the_body() -> None:
    pace = Pace(SILENCE, WHOLE)
    assert pace.patience_seconds == SILENCE
    assert "30 seconds" in pace.error().detail
    for _ in range(290):
        pace.count(1, MEBIBYTE)
    assert pace.patience_seconds == 10
    assert "did not arrive within 300 seconds" in pace.error().detail


def test_the_marks_of_a_long_body_are_bounded() -> None:
    pace = Pace(SILENCE, 10**9)
    for _ in range(100_000):
        pace.count(0.5, MEBIBYTE)
    assert len(pace._marks) <= 12
