"""Back-pressure: tests of the counters, on a clock that each test moves itself."""

from concurrent.futures import CancelledError

import pytest

from service.encoder.runtime.backpressure import PICTURES_A_THREAD, BackPressure, QueueEntry
from service.errors import Overloaded


class Clock:
    """A clock that moves only if the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> BackPressure:
    """Back-pressure for two threads."""
    return BackPressure(2, clock)


def entered(admission: BackPressure, images: int) -> list[QueueEntry]:
    return [admission.enter(bulk=False) for _ in range(images)]


def done(admission: BackPressure, ticket: QueueEntry, seconds: float = 0.1) -> None:
    admission.start(ticket)
    ticket.busy_seconds = seconds
    admission.leave(ticket)


def strained(admission: BackPressure) -> list[QueueEntry]:
    """As many images as fit, and one refusal."""
    tickets = entered(admission, 2 * PICTURES_A_THREAD)
    with pytest.raises(Overloaded):
        admission.enter(bulk=False)
    return tickets


def test_sixteen_clients_that_take_turns_are_never_refused(admission: BackPressure) -> None:
    tickets = entered(admission, 16)
    for _ in range(500):
        done(admission, tickets.pop(0))
        tickets += entered(admission, 1)
    assert admission.load().refused == 0


def test_an_image_is_refused_with_retry_after_if_the_queue_is_full(admission: BackPressure) -> None:
    strained(admission)
    with pytest.raises(Overloaded) as refused:
        admission.reserve()
    assert refused.value.status == 503
    assert refused.value.retry_after_seconds >= 1
    assert refused.value.members["retry_after_seconds"] == refused.value.retry_after_seconds
    assert admission.load().refused == 2


def test_a_strained_server_lets_only_as_many_images_wait_as_it_has_threads(
    admission: BackPressure, clock: Clock
) -> None:
    for ticket in strained(admission):
        clock.now += 0.001
        done(admission, ticket)
    entered(admission, 4)  # the two threads are free, so two images can start at once and two wait
    with pytest.raises(Overloaded):
        admission.enter(bulk=False)


def test_images_that_waited_too_long_are_refused_while_the_server_is_strained(
    admission: BackPressure, clock: Clock
) -> None:
    tickets = strained(admission)
    clock.now += 1.0
    with pytest.raises(Overloaded):
        admission.start(tickets[0])
    admission.leave(tickets[0])
    assert admission.load().running == 0


def test_bulk_work_that_waited_too_long_is_processed_while_the_server_is_strained(
    admission: BackPressure, clock: Clock
) -> None:
    bulk = admission.enter(bulk=True)
    strained(admission)
    clock.now += 1.0
    admission.start(bulk)
    assert admission.load().running == 1


def test_an_image_that_waited_long_is_processed_if_the_server_is_not_strained(
    admission: BackPressure, clock: Clock
) -> None:
    (ticket,) = entered(admission, 1)
    clock.now += 60
    admission.start(ticket)


def test_the_strain_ends_two_seconds_after_the_last_refusal(admission: BackPressure, clock: Clock) -> None:
    for ticket in strained(admission):
        admission.leave(ticket)
    clock.now += 2.1
    entered(admission, 2 * PICTURES_A_THREAD)


def test_bulk_work_is_never_refused_and_takes_no_slot_of_other_work(admission: BackPressure) -> None:
    for _ in range(1000):
        admission.enter(bulk=True)
    strained(admission)
    admission.enter(bulk=True)
    assert admission.load().waiting == 1001 + 2 * PICTURES_A_THREAD


def test_an_image_that_leaves_the_queue_frees_its_slot(admission: BackPressure) -> None:
    tickets = entered(admission, 2 * PICTURES_A_THREAD)
    admission.leave(tickets[0])
    admission.enter(bulk=False)


def test_a_thread_does_not_start_an_image_that_left_the_queue(admission: BackPressure) -> None:
    (ticket,) = entered(admission, 1)
    admission.leave(ticket)
    with pytest.raises(CancelledError):
        admission.start(ticket)
    assert (admission.load().running, admission.load().waiting) == (0, 0)


def test_retry_after_grows_with_the_duration_of_an_image(admission: BackPressure) -> None:
    for ticket in entered(admission, 20) + entered(admission, 4):
        done(admission, ticket, seconds=10.0)
    entered(admission, 2 * PICTURES_A_THREAD)
    with pytest.raises(Overloaded) as refused:
        admission.reserve()
    assert refused.value.retry_after_seconds > 20
    assert admission.load().picture_seconds > 5


def test_a_cancelled_image_does_not_change_the_measured_duration_of_an_image(admission: BackPressure) -> None:
    """A canceled image skips steps, so its thread seconds say nothing about the next image."""
    before = admission.load().picture_seconds
    (ticket,) = entered(admission, 1)
    ticket.cancelled = True
    done(admission, ticket, seconds=10.0)
    assert admission.load().picture_seconds == before


def test_a_reservation_keeps_a_slot_for_an_upload_until_it_expires(admission: BackPressure, clock: Clock) -> None:
    for _ in range(2 * PICTURES_A_THREAD):
        admission.reserve()
    with pytest.raises(Overloaded):
        admission.reserve()
    clock.now += 2.2  # no slot is reserved any more, and the strain is over
    admission.reserve()
    entered(admission, 2 * PICTURES_A_THREAD - 1)  # one slot is reserved
    with pytest.raises(Overloaded):
        admission.enter(bulk=False)


def test_only_the_image_of_a_reservation_can_use_its_slot(admission: BackPressure) -> None:
    slot = admission.reserve()
    entered(admission, 2 * PICTURES_A_THREAD - 1)
    with pytest.raises(Overloaded):
        admission.enter(bulk=False)
    assert admission.enter(bulk=False, slot=slot).state == "waiting"
    with pytest.raises(Overloaded):
        admission.enter(bulk=False, slot=slot)  # the second image of the request has no slot


def test_an_expired_reservation_gives_no_slot(admission: BackPressure, clock: Clock) -> None:
    slot = admission.reserve()
    entered(admission, 2 * PICTURES_A_THREAD - 1)
    with pytest.raises(Overloaded):
        admission.enter(bulk=False)
    clock.now += 0.2  # the reservation has expired, and the server is still strained
    with pytest.raises(Overloaded):
        admission.enter(bulk=False, slot=slot)


def test_a_request_without_an_image_releases_its_slot(admission: BackPressure) -> None:
    for _ in range(100):
        with admission.reserve():
            pass
    (ticket,) = entered(admission, 1)
    slot = admission.reserve()
    admission.enter(bulk=False, slot=slot)
    slot.release()  # the slot is used, so this changes nothing
    done(admission, ticket)
    assert admission.load().refused == 0


def test_a_few_clients_that_retry_at_once_end_the_strain(admission: BackPressure, clock: Clock) -> None:
    for ticket in strained(admission):
        admission.leave(ticket)
    working, waiting = entered(admission, 2), entered(admission, 2)
    for ticket in working:
        admission.start(ticket)
    for _ in range(60):  # two threads, a little faster than 0.1 s an image
        clock.now += 0.045
        working[0].busy_seconds = 0.1
        admission.leave(working.pop(0))
        waiting += entered(admission, 1)
        admission.start(waiting[0])
        working.append(waiting.pop(0))
    entered(admission, 2 * PICTURES_A_THREAD - 4)
