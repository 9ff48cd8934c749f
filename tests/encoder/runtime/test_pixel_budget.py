"""The budget of decoded pixels: images wait in turn, none waits forever, and what can never fit is refused."""

import asyncio
import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from service.encoder.contract import DetectedFace, Image
from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.fake_pictures import draw_people
from service.encoder.images.cancellation import Cancellation
from service.encoder.images.decode import decode_image
from service.encoder.runtime.pixel_budget import PixelBudget, PixelShare, budget_for
from service.errors import ImageTooLarge
from tests.support.encoders import LIMITS
from tests.support.waiting import wait_until


class Waiter:
    """A thread that asks for pixels of its own share."""

    def __init__(self, budget: PixelBudget, pixels: int, entered: list["Waiter"]) -> None:
        self.share = budget.share(Cancellation())
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._ask, args=(pixels, entered), daemon=True)
        waiting = budget.waiting
        self._thread.start()
        wait_until(lambda: budget.waiting > waiting or self.has_ended)

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def _ask(self, pixels: int, entered: list["Waiter"]) -> None:
        try:
            self.share.enlarge(pixels)
            entered.append(self)
        except BaseException as error:
            self.error = error


@pytest.fixture
def budget() -> PixelBudget:
    return PixelBudget(100)


def held(budget: PixelBudget, pixels: int) -> PixelShare:
    share = budget.share(Cancellation())
    share.enlarge(pixels)
    return share


def test_a_large_image_waits_in_turn_and_small_ones_do_not_overtake_it(budget: PixelBudget) -> None:
    entered: list[Waiter] = []
    first = held(budget, 60)
    large, small = Waiter(budget, 50, entered), Waiter(budget, 10, entered)
    assert (entered, budget.waiting, budget.used) == ([], 2, 60)
    first.close()
    wait_until(lambda: budget.waiting == 0)
    wait_until(lambda: len(entered) == 2)
    assert (set(entered), budget.used) == ({large, small}, 60)


def test_images_that_need_more_pixels_at_the_same_time_do_not_wait_for_each_other(budget: PixelBudget) -> None:
    """Each holds 50 and wants 40 more. If both kept their share while they wait, neither would go on."""
    entered: list[Waiter] = []
    shares = [held(budget, 50), held(budget, 50)]
    threads = [threading.Thread(target=share.enlarge, args=(40,), daemon=True) for share in shares]
    for thread in threads:
        thread.start()
    wait_until(lambda: any(share.pixels == 90 for share in shares))
    next(share for share in shares if share.pixels == 90).close()
    wait_until(lambda: all(not thread.is_alive() for thread in threads))
    assert budget.used == 90
    assert entered == []


def test_an_image_that_can_never_fit_is_refused_at_once(budget: PixelBudget) -> None:
    with pytest.raises(ImageTooLarge, match="101 pixels, at most 100 may be decoded at a time"):
        held(budget, 101)
    assert (budget.used, budget.waiting) == (0, 0)
    assert held(budget, 100).pixels == 100


def test_the_whole_image_beside_its_reduced_copy_waits_for_no_more_than_the_budget(budget: PixelBudget) -> None:
    share = held(budget, 25)
    share.enlarge(100)
    assert (share.pixels, budget.used) == (100, 100)


def test_an_image_whose_client_has_left_gives_its_turn_away(budget: PixelBudget) -> None:
    entered: list[Waiter] = []
    held(budget, 60)
    large, small = Waiter(budget, 50, entered), Waiter(budget, 10, entered)
    large.share.cancellation.cancel()
    wait_until(lambda: entered == [small])
    wait_until(lambda: large.has_ended)
    assert isinstance(large.error, CancelledError)
    assert budget.used == 70


class CountingEncoder(FakeEncoder):
    """Notes what the budget holds while an image is in progress."""

    def __init__(self) -> None:
        super().__init__()
        self.budget: PixelBudget | None = None
        self.seen: list[int] = []

    def detect(self, image: Image) -> list[DetectedFace]:
        assert self.budget is not None
        self.seen.append(self.budget.used)
        return super().detect(image)


async def test_images_that_are_encoded_at_once_stay_within_the_budget_and_give_it_back() -> None:
    data = draw_people(["Ada"])
    pixels = int(np.prod(decode_image(data, LIMITS).shape[:2]))
    encoder = CountingEncoder()
    encoders = Encoders([encoder], LIMITS, 200, threads=4, budget_pixels=2 * pixels + 1)
    encoder.budget = encoders._pipeline._budget
    try:
        found = await asyncio.gather(*[encoders.encode(encoders.default, data) for _ in range(12)])
        assert [len(faces) for faces in found] == [1] * 12
        assert max(encoder.seen) <= 2 * pixels
        assert encoder.budget.used == 0
        with pytest.raises(Exception, match=r"cut off|damaged"):
            await encoders.encode(encoders.default, data[: len(data) // 2])
        assert encoder.budget.used == 0
    finally:
        encoders.close()


async def test_an_image_larger_than_the_budget_is_refused_as_too_large() -> None:
    encoders = Encoders([FakeEncoder()], LIMITS, 200, threads=2, budget_pixels=100)
    try:
        with pytest.raises(ImageTooLarge):
            await encoders.encode(encoders.default, draw_people(["Ada"]))
    finally:
        encoders.close()


def test_the_default_takes_two_of_the_largest_images_and_a_photograph_for_each_thread() -> None:
    assert budget_for(50_000_000, 2) == 100_000_000
    assert budget_for(50_000_000, 16) == 192_000_000
