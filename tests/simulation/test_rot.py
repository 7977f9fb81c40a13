"""Bits turn on the simulated disk: each is found, told and healed, and nothing is learnt twice or lost over it."""

from __future__ import annotations

import pytest

from runtime.simulation.strikes import Strike
from tools.simulated_house.people import DAY, make_plan
from tools.simulated_house.universe import Universe

DAYS = 0.5


def staying(seed: int) -> tuple[int, ...]:
    """Groups of deeds that end a life."""
    return tuple(sorted({deed.group for deed in make_plan(seed, DAYS).deeds if deed.act == "restart"}))


def rot(how: str, times: int) -> list[Strike]:
    return [
        Strike(1, "bit_rot", int((number + 0.7) * 0.8 * DAYS * DAY / times), how, seed=number)
        for number in range(times)
    ]


@pytest.mark.parametrize("seed", range(12))
def test_b1_what_is_in_force_is_damaged_again_and_again_and_no_step_is_lost_or_repeated(seed: int) -> None:
    outcome = Universe(seed, DAYS, faults=rot("in_force", 8), without=staying(seed)).run()
    assert not outcome.violation, outcome
    assert outcome.counts["rot"] >= 3


@pytest.mark.parametrize("how", ["generation", "delta", "snapshot"])
def test_b1_each_kind_of_thing_is_healed(how: str) -> None:
    struck = 0
    for seed in range(8):
        outcome = Universe(
            seed, 1.0, faults=[Strike(1, "bit_rot", at, how, seed=at) for at in range(3600, 75_000, 9000)]
        ).run()
        assert not outcome.violation, outcome
        struck += outcome.counts.get("rot", 0)
    assert struck >= 5


def test_a_universe_with_the_rot_of_another_is_the_same_again() -> None:
    faults = rot("", 6)
    first, second = Universe(3, DAYS, faults=faults).run(), Universe(3, DAYS, faults=faults).run()
    assert first == second
    assert first.faults["bit_rot"] >= 1
    again = Universe(3, DAYS, faults=first.strikes).run()
    assert (again.trace, again.violation) == (first.trace, "")
