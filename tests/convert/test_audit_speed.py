"""Timing in turn, on a clock that only the runs move: bursts, order, when it ends, and ratios known beforehand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgedistill.convert.audit.speed import Limits, interleaved, ratio


class Clock:
    """Nanoseconds that pass only in runs."""

    def __init__(self) -> None:
        self.ns = 0
        self.log: list[str] = []

    def __call__(self) -> int:
        return self.ns

    def run(self, name: str, cost_ms: Callable[[int], float]) -> Callable[[], None]:
        """Return something that takes `cost_ms` of the number of its run."""
        count = iter(range(1_000_000))

        def work() -> None:
            self.log.append(name)
            self.ns += round(cost_ms(next(count)) * 1e6)

        return work


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_things_run_in_bursts_in_turn_and_the_order_turns_round(clock: Clock) -> None:
    runs = [clock.run(name, lambda run: 1.0) for name in "ab"]
    taken = interleaved(runs, limits=Limits(seconds=0, fewest=2, burst=2), clock=clock)
    # once each to warm up; then one run that does not count and two that do
    assert "".join(clock.log) == "ab" + "aaabbb" + "bbbaaa"
    assert taken.shape == (2, 2, 2)


def test_what_does_not_count_is_the_warm_up_and_the_first_of_each_burst(clock: Clock) -> None:
    limits = Limits(seconds=0, fewest=3, burst=2)
    run = clock.run("a", lambda run: 2.0 if run == 0 else 100.0 if (run - 1) % 3 == 0 else 5.0)
    assert (interleaved([run], limits=limits, clock=clock) == 5.0).all()


@pytest.mark.parametrize(
    ("cost_ms", "limits", "rounds"),
    [
        (10.0, Limits(seconds=1.0, fewest=1, most=99, burst=1), 50),  # a round of two bursts is two runs of 10 ms
        (10.0, Limits(seconds=100.0, fewest=1, most=7, burst=1), 7),
        (1000.0, Limits(seconds=1.0, fewest=9, burst=1), 9),
    ],
)
def test_it_ends_when_time_is_over_but_not_before_the_fewest_rounds(clock: Clock, cost_ms: float, limits: Limits, rounds: int) -> None:
    taken = interleaved([clock.run("a", lambda run: cost_ms)], limits=limits, clock=clock)
    assert taken.shape[1] == rounds


def test_it_ends_early_when_there_is_enough(clock: Clock) -> None:
    taken = interleaved([clock.run("a", lambda run: 1.0)], limits=Limits(fewest=3), clock=clock, enough=lambda taken: taken.shape[1] >= 5)
    assert taken.shape[1] == 5


def test_a_clock_that_stands_still_gives_no_zero() -> None:
    assert (interleaved([lambda: None], limits=Limits(fewest=2, most=2), clock=lambda: 7) > 0).all()


def test_the_ratio_of_steady_things_is_exact_and_soon_known(clock: Clock) -> None:
    found = ratio(clock.run("a", lambda run: 3.0), clock.run("b", lambda run: 2.0), limits=Limits(), clock=clock)
    assert found == (3.0, 1.5, (1.5, 1.5), 25)


def test_a_machine_that_slows_down_for_both_changes_no_ratio(clock: Clock) -> None:
    """Every third round takes five times as long."""
    limits = Limits(most=30, precise=0.0)

    def slow(run: int) -> float:
        return 5.0 if run > 0 and (run - 1) // (limits.burst + 1) % 3 == 2 else 1.0

    found = ratio(clock.run("a", lambda run: 2 * slow(run)), clock.run("b", slow), limits=limits, clock=clock)
    assert (found.ratio, found.interval) == (2.0, (2.0, 2.0))
    assert found.p50_ms == 2.0


def test_noise_widens_the_interval_and_the_truth_is_inside(clock: Clock) -> None:
    rng = np.random.default_rng(3)
    noisy = clock.run("a", lambda run: 1.1 * float(rng.lognormal(0, 0.2)))
    found = ratio(noisy, clock.run("b", lambda run: 1.0), limits=Limits(seconds=10, most=120), clock=clock)
    low, high = found.interval
    assert low < 1.1 < high
    assert 0.01 < high - low < 0.2
    assert found.rounds == 120
