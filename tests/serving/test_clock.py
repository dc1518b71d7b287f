import pytest

from bowerbird.errors import InputError
from bowerbird.serving.clock import Clock


def test_a_clock_that_goes_back_is_held() -> None:
    times = iter([100, 90, 95, 101])
    clock = Clock(lambda: next(times))
    assert [clock.now() for _ in range(4)] == [100, 100, 100, 101]


def test_the_logs_last_time_is_the_floor_unless_it_is_absurd() -> None:
    clock = Clock(lambda: 1_000, tolerance=500)
    clock.raise_floor(1_400)
    assert clock.now() == 1_400
    with pytest.raises(InputError, match="future"):
        clock.raise_floor(10_000_000)
