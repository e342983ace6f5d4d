"""How fast frames come, from when they arrived."""

from __future__ import annotations

import pytest

from edgedistill.runtime.pace import KEEP, RATE_S, Pace


def pace(*arrivals_s: float) -> Pace:
    found = Pace()
    for arrival_s in arrivals_s:
        found.add(arrival_s)
    return found


@pytest.mark.parametrize("rate", [0.5, 1.0, 5.0, 29.97])
@pytest.mark.parametrize("since", [0.0, 0.5, 0.99])
def test_the_rate_is_the_same_wherever_between_two_frames_it_is_asked_for(rate: float, since: float) -> None:
    assert pace(*(number / rate for number in range(200))).fps((199 + since) / rate) == pytest.approx(rate)


def test_the_rate_falls_once_nothing_comes_any_more() -> None:
    stopped = pace(*(number / 10 for number in range(101)))
    rates = [stopped.fps(10 + silent_s) for silent_s in (0.0, 0.1, 1.0, 3.0)]
    assert rates[0] == rates[1] == pytest.approx(10.0)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[3] == pytest.approx(20 / 4.9, rel=0.03)
    assert stopped.fps(10 + RATE_S) is None


@pytest.mark.parametrize("arrivals_s", [(), (1.0,)])
def test_a_rate_takes_two_frames(arrivals_s: tuple[float, ...]) -> None:
    found = pace(*arrivals_s)
    assert found.fps(1.0) is None
    assert found.interval_s() is None
    assert found.last_s == (arrivals_s[-1] if arrivals_s else None)


def test_a_burst_is_not_a_rate() -> None:
    found = pace(*(second + place * 1e-6 for second in range(5) for place in range(10)))
    assert found.fps(5.0) == pytest.approx(10.0, rel=0.35)


def test_frames_of_one_moment_are_a_number() -> None:
    assert pace(1.0, 1.0, 1.0).fps(1.0) == pytest.approx(2e9)


def test_the_share_of_whole_frames_is_that_of_the_last_seconds() -> None:
    found = Pace()
    assert found.whole_share(0.0) == 1.0
    for number in range(100):
        found.add(number / 10, whole=number < 50 or number % 2 == 0)
    assert found.whole_share(9.9) == pytest.approx(0.5, abs=0.02)
    assert found.whole_share(100.0) == 1.0


def test_a_forgotten_rate_and_a_bounded_memory() -> None:
    found = pace(*(float(number) for number in range(KEEP + 50)))
    assert found.interval_s() == pytest.approx(1.0)
    assert len(found._arrivals_s) == KEEP
    found.clear()
    assert found.last_s is None
    assert found.whole_share(0.0) == 1.0
