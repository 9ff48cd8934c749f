"""Back-pressure: tests of the counters, on a clock that each test moves itself."""

import contextlib
from concurrent.futures import CancelledError

import pytest

from service.encoder.runtime.backpressure import IMAGES_PER_THREAD, BackPressure, QueueEntry
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
def back_pressure(clock: Clock) -> BackPressure:
    """Back-pressure for two threads."""
    return BackPressure(2, clock)


def entered(back_pressure: BackPressure, images: int) -> list[QueueEntry]:
    return [back_pressure.enter(bulk=False) for _ in range(images)]


def done(back_pressure: BackPressure, entry: QueueEntry, seconds: float = 0.1) -> None:
    back_pressure.start(entry)
    entry.busy_seconds = seconds
    back_pressure.leave(entry)


def strained(back_pressure: BackPressure) -> list[QueueEntry]:
    """As many images as fit, and one refusal."""
    entries = entered(back_pressure, 2 * IMAGES_PER_THREAD)
    with pytest.raises(Overloaded):
        back_pressure.enter(bulk=False)
    return entries


def test_sixteen_clients_that_take_turns_are_never_refused(back_pressure: BackPressure) -> None:
    entries = entered(back_pressure, 16)
    for _ in range(500):
        done(back_pressure, entries.pop(0))
        entries += entered(back_pressure, 1)
    assert back_pressure.load().refused == 0


def test_an_image_is_refused_with_retry_after_if_the_queue_is_full(back_pressure: BackPressure) -> None:
    strained(back_pressure)
    with pytest.raises(Overloaded) as refused:
        back_pressure.reserve()
    assert refused.value.status == 503
    assert refused.value.retry_after_seconds >= 1
    assert refused.value.members["retry_after_seconds"] == refused.value.retry_after_seconds
    assert back_pressure.load().refused == 2


def test_a_strained_server_lets_only_as_many_images_wait_as_it_has_threads(
    back_pressure: BackPressure, clock: Clock
) -> None:
    for entry in strained(back_pressure):
        clock.now += 0.001
        done(back_pressure, entry)
    entered(back_pressure, 4)  # the two threads are free, so two images can start at once and two wait
    with pytest.raises(Overloaded):
        back_pressure.enter(bulk=False)


def test_images_that_waited_too_long_are_refused_while_the_server_is_strained(
    back_pressure: BackPressure, clock: Clock
) -> None:
    entries = strained(back_pressure)
    clock.now += 1.0
    with pytest.raises(Overloaded):
        back_pressure.start(entries[0])
    back_pressure.leave(entries[0])
    assert back_pressure.load().running == 0


def test_bulk_work_that_waited_too_long_is_processed_while_the_server_is_strained(
    back_pressure: BackPressure, clock: Clock
) -> None:
    bulk = back_pressure.enter(bulk=True)
    strained(back_pressure)
    clock.now += 1.0
    back_pressure.start(bulk)
    assert back_pressure.load().running == 1


def test_an_image_that_waited_long_is_processed_if_the_server_is_not_strained(
    back_pressure: BackPressure, clock: Clock
) -> None:
    (entry,) = entered(back_pressure, 1)
    clock.now += 60
    back_pressure.start(entry)


def test_the_strain_ends_two_seconds_after_the_last_refusal(back_pressure: BackPressure, clock: Clock) -> None:
    for entry in strained(back_pressure):
        back_pressure.leave(entry)
    clock.now += 2.1
    entered(back_pressure, 2 * IMAGES_PER_THREAD)


def test_bulk_work_is_never_refused_and_takes_no_slot_of_other_work(back_pressure: BackPressure) -> None:
    for _ in range(1000):
        back_pressure.enter(bulk=True)
    strained(back_pressure)
    back_pressure.enter(bulk=True)
    assert back_pressure.load().waiting == 1001 + 2 * IMAGES_PER_THREAD


def test_an_image_that_leaves_the_queue_frees_its_slot(back_pressure: BackPressure) -> None:
    entries = entered(back_pressure, 2 * IMAGES_PER_THREAD)
    back_pressure.leave(entries[0])
    back_pressure.enter(bulk=False)


def test_a_thread_does_not_start_an_image_that_left_the_queue(back_pressure: BackPressure) -> None:
    (entry,) = entered(back_pressure, 1)
    back_pressure.leave(entry)
    with pytest.raises(CancelledError):
        back_pressure.start(entry)
    assert (back_pressure.load().running, back_pressure.load().waiting) == (0, 0)


def test_retry_after_grows_with_the_duration_of_an_image(back_pressure: BackPressure) -> None:
    for entry in entered(back_pressure, 20) + entered(back_pressure, 4):
        done(back_pressure, entry, seconds=10.0)
    entered(back_pressure, 2 * IMAGES_PER_THREAD)
    with pytest.raises(Overloaded) as refused:
        back_pressure.reserve()
    assert refused.value.retry_after_seconds > 20
    assert back_pressure.load().image_seconds > 5


def test_a_cancelled_image_does_not_change_the_measured_duration_of_an_image(back_pressure: BackPressure) -> None:
    """A canceled image skips steps, so its thread seconds say nothing about the next image."""
    before = back_pressure.load().image_seconds
    (entry,) = entered(back_pressure, 1)
    entry.cancellation.cancel()
    done(back_pressure, entry, seconds=10.0)
    assert back_pressure.load().image_seconds == before


def test_a_reservation_keeps_a_slot_for_an_upload_until_it_expires(back_pressure: BackPressure, clock: Clock) -> None:
    for _ in range(2 * IMAGES_PER_THREAD):
        back_pressure.reserve()
    with pytest.raises(Overloaded):
        back_pressure.reserve()
    clock.now += 2.2  # no slot is reserved any more, and the strain is over
    back_pressure.reserve()
    entered(back_pressure, 2 * IMAGES_PER_THREAD - 1)  # one slot is reserved
    with pytest.raises(Overloaded):
        back_pressure.enter(bulk=False)


def test_only_the_image_of_a_reservation_can_use_its_slot(back_pressure: BackPressure) -> None:
    slot = back_pressure.reserve()
    entered(back_pressure, 2 * IMAGES_PER_THREAD - 1)
    with pytest.raises(Overloaded):
        back_pressure.enter(bulk=False)
    assert back_pressure.enter(bulk=False, slot=slot).state == "waiting"
    with pytest.raises(Overloaded):
        back_pressure.enter(bulk=False, slot=slot)  # the second image of the request has no slot


def test_an_expired_reservation_gives_no_slot(back_pressure: BackPressure, clock: Clock) -> None:
    slot = back_pressure.reserve()
    entered(back_pressure, 2 * IMAGES_PER_THREAD - 1)
    with pytest.raises(Overloaded):
        back_pressure.enter(bulk=False)
    clock.now += 0.2  # the reservation has expired, and the server is still strained
    with pytest.raises(Overloaded):
        back_pressure.enter(bulk=False, slot=slot)


def test_a_request_without_an_image_releases_its_slot(back_pressure: BackPressure) -> None:
    for _ in range(100):
        with back_pressure.reserve():
            pass
    (entry,) = entered(back_pressure, 1)
    slot = back_pressure.reserve()
    back_pressure.enter(bulk=False, slot=slot)
    slot.release()  # the slot is used, so this changes nothing
    done(back_pressure, entry)
    assert back_pressure.load().refused == 0


def test_a_few_clients_that_retry_at_once_end_the_strain(back_pressure: BackPressure, clock: Clock) -> None:
    for entry in strained(back_pressure):
        back_pressure.leave(entry)
    working, waiting = entered(back_pressure, 2), entered(back_pressure, 2)
    for entry in working:
        back_pressure.start(entry)
    for _ in range(60):  # two threads, a little faster than 0.1 s an image
        clock.now += 0.045
        working[0].busy_seconds = 0.1
        back_pressure.leave(working.pop(0))
        waiting += entered(back_pressure, 1)
        back_pressure.start(waiting[0])
        working.append(waiting.pop(0))
    entered(back_pressure, 2 * IMAGES_PER_THREAD - 4)


def test_a_full_queue_takes_the_image_of_another_tenant_in_place_of_the_newest(back_pressure: BackPressure) -> None:
    told: list[int] = []
    entries = [
        back_pressure.enter(bulk=False, tenant=1, pushed_out=lambda _, number=number: told.append(number))  # type: ignore[misc]
        for number in range(2 * IMAGES_PER_THREAD)
    ]
    quiet = back_pressure.enter(bulk=False, tenant=2)
    assert told == [2 * IMAGES_PER_THREAD - 1]
    assert (quiet.state, entries[-1].state) == ("waiting", "left")
    assert back_pressure.load().waiting == 2 * IMAGES_PER_THREAD
    with pytest.raises(CancelledError):
        back_pressure.start(entries[-1])
    back_pressure.leave(entries[-1])
    assert (back_pressure.load().running, back_pressure.load().waiting) == (0, 2 * IMAGES_PER_THREAD)


def test_only_the_tenant_that_fills_the_queue_is_strained(back_pressure: BackPressure, clock: Clock) -> None:
    for _ in range(2 * IMAGES_PER_THREAD):
        back_pressure.enter(bulk=False, tenant=1)
    with pytest.raises(Overloaded):
        back_pressure.reserve(1)
    quiet = [back_pressure.enter(bulk=False, tenant=2) for _ in range(4)]
    clock.now += 1.0
    for entry in quiet:
        back_pressure.start(entry)  # a strained server would refuse it, because it waited too long
        back_pressure.leave(entry)
    with pytest.raises(Overloaded):
        back_pressure.enter(bulk=False, tenant=1)


def test_twenty_four_clients_of_one_tenant_make_no_image_of_another_fail(
    back_pressure: BackPressure, clock: Clock
) -> None:
    """Field report: 24 clients that retry at once made 5 of 6 images of another tenant fail."""
    waiting: list[QueueEntry] = []
    for _ in range(200):
        for _ in range(24):
            with contextlib.suppress(Overloaded):
                waiting.append(back_pressure.enter(bulk=False, tenant=1))
        quiet = back_pressure.enter(bulk=False, tenant=2)
        clock.now += 0.05
        done(back_pressure, quiet, seconds=0.05)
        first = next(entry for entry in waiting if entry.state == "waiting")
        with contextlib.suppress(Overloaded):
            back_pressure.start(first)
        back_pressure.leave(first)


def test_tenants_with_equal_numbers_of_images_do_not_push_each_other_out(back_pressure: BackPressure) -> None:
    entries = [back_pressure.enter(bulk=False, tenant=tenant) for tenant in (1, 2) for _ in range(IMAGES_PER_THREAD)]
    with pytest.raises(Overloaded):
        back_pressure.enter(bulk=False, tenant=2)
    assert {entry.state for entry in entries} == {"waiting"}


def test_a_reservation_is_pushed_out_if_no_image_waits(back_pressure: BackPressure) -> None:
    slots = [back_pressure.reserve(1) for _ in range(2 * IMAGES_PER_THREAD)]
    back_pressure.reserve(2)
    with pytest.raises(Overloaded):
        back_pressure.enter(bulk=False, slot=slots[-1], tenant=1)
    assert back_pressure.enter(bulk=False, slot=slots[0], tenant=1).state == "waiting"
