"""The plan of a batch is a pure function, loses nothing, and keeps within its budgets."""

from __future__ import annotations

import subprocess
import sys

import pytest

from actors.trainer import order

LENGTHS = [7, 30, 12, 50, 3, 3, 90, 18, 25, 41, 5, 9, 60, 33, 2, 8]


def test_a_permutation_holds_every_number_once() -> None:
    assert sorted(order.permutation(3, "digest", 0, 1000)) == list(range(1000))


def test_the_order_hangs_on_seed_digest_and_epoch() -> None:
    one = order.permutation(3, "digest", 0, 100)
    assert one == order.permutation(3, "digest", 0, 100)
    others = [order.permutation(*arguments, 100) for arguments in [(4, "digest", 0), (3, "other", 0), (3, "digest", 1)]]
    assert all(one != other for other in others)


def test_the_order_is_frozen() -> None:
    # A home that was interrupted with one version goes on with the next, so this may never change.
    assert order.permutation(0, "blake3:00", 0, 10) == FROZEN


FROZEN = [4, 2, 0, 3, 9, 5, 6, 7, 1, 8]


@pytest.mark.parametrize(("tokens", "examples"), [(64, 16), (100, 3), (1, 16), (10_000, 4)])
def test_every_epoch_takes_every_example_once_within_the_budget(tokens: int, examples: int) -> None:
    steps = order.plan(1, "d", 3, LENGTHS, tokens, examples)
    assert sorted(number for step in steps for number in step) == sorted(list(range(len(LENGTHS))) * 3)
    for step in steps:
        assert len(step) <= examples
        assert sum(LENGTHS[number] for number in step) <= tokens or len(step) == 1


def test_no_step_spans_two_epochs() -> None:
    one = order.plan(1, "d", 1, LENGTHS, 64, 16)
    assert order.plan(1, "d", 2, LENGTHS, 64, 16)[: len(one)] == one


@pytest.mark.parametrize("examples_max", [None, 1, 2, 5])
def test_micro_batches_hold_the_step_within_the_budget(examples_max: int | None) -> None:
    pieces = order.micro_batches(range(len(LENGTHS)), LENGTHS, 100, examples_max)
    assert sorted(number for piece in pieces for number in piece) == list(range(len(LENGTHS)))
    for piece in pieces:
        assert max(LENGTHS[number] for number in piece) * len(piece) <= 100
        assert examples_max is None or len(piece) <= examples_max


def test_an_example_over_the_budget_goes_alone() -> None:
    assert order.micro_batches([6, 4], LENGTHS, 50)[0] == [6]


def test_the_longest_goes_first() -> None:
    assert order.micro_batches(range(len(LENGTHS)), LENGTHS, 100)[0][0] == LENGTHS.index(max(LENGTHS))


def test_planning_and_rendering_do_not_load_torch() -> None:
    modules = "actors.trainer.order, actors.trainer.rendering, actors.trainer.settings, actors.trainer.base_model"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
