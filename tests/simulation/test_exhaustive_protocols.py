"""Every durable protocol, with every fault at every point of it; and that the sweep of them is sound."""

from __future__ import annotations

import random

import pytest

from runtime import durable
from runtime.simulation import PowerCut, PowerLost, SimDisk
from tools.exhaustion.durable_protocols import DURABLE
from tools.exhaustion.forking_disk import ForkingDisk, Point, cut_for_real, digest, fork
from tools.exhaustion.protocols import PROTOCOLS
from tools.exhaustion.replay import ProtocolReplay
from tools.exhaustion.scenario import Scenario
from tools.exhaustion.sweep import Sweep, prepared
from tools.exhaustion.tape import Tape, every_outcome


def named(scenario: Scenario) -> str:
    return scenario.name


@pytest.mark.parametrize("scenario", DURABLE, ids=named)
def test_a_protocol_keeps_its_promise_however_often_the_power_goes(scenario: Scenario) -> None:
    tally = Sweep(scenario, thorough=True).run()
    assert not tally.violations
    assert tally.closed, "there are disks from which it was not gone on"
    assert tally.points > 0
    assert {"cut", "kill", "no_space", "short_write", "io_error"} <= set(tally.cases)


@pytest.mark.parametrize("scenario", [each for each in PROTOCOLS if each not in DURABLE], ids=named)
def test_an_actors_protocol_keeps_its_promise_through_power_cuts_in_a_row(scenario: Scenario) -> None:
    # A night is the longest of them: the second cut after every first one is left to the long run.
    of_a_night = "night" in scenario.name
    short = scenario.name.startswith("inbox")
    bounds = {"cuts": 1 if of_a_night else 2, "torn_at_most": 3 if of_a_night else 2}
    tally = Sweep(scenario, **bounds, thorough=short).run()
    assert not tally.violations
    assert tally.points > 0
    assert {"cut", "cut again", "kill", "no_space", "short_write", "io_error"} <= set(tally.cases)


def test_each_protocol_has_a_name_of_its_own() -> None:
    assert len({scenario.name for scenario in PROTOCOLS}) == len(PROTOCOLS)


# The sweep looks at copies; these hold that a copy is what cutting for real would have left.


@pytest.mark.parametrize(
    "scenario",
    [each for each in PROTOCOLS if each.name.startswith(("write_directory", "remove", "inbox: filed as t"))],
    ids=named,
)
def test_a_cut_on_a_copy_leaves_what_a_cut_for_real_leaves(scenario: Scenario) -> None:
    copies: list[tuple[int, str, str]] = []

    def note(point: Point) -> None:
        copies.extend((point.number, word, digest(found)) for word, found in point.cuts(4))

    disk = prepared(scenario)
    disk.on_point = note
    scenario.act(disk, scenario.recover(disk))
    assert len(copies) > 3 * disk.operations
    for number, word, expected in copies:
        moment, _, mode = word.partition(".")
        again = prepared(scenario)
        again.faults = lambda at, *_, number=number, moment=moment: (
            PowerCut(halfway=moment == "halfway") if at == number else None
        )
        with pytest.raises(PowerLost):
            scenario.act(again, scenario.recover(again))
        assert digest(cut_for_real(again, mode)) == expected, f"operation {number}, {word}"


def test_a_fork_shares_nothing_with_its_original() -> None:
    disk = ForkingDisk()
    durable.ensure_directory(disk, "d")
    handle = disk.create("d/f")
    disk.write(handle, b"before")
    twin = fork(disk)
    disk.write(handle, b", and after")
    disk.fsync(handle)
    disk.rename("d/f", "g")
    assert twin.tree() == {"d": None, "d/f": b"before"}
    twin.write(handle, b" on the twin")
    assert twin.read("d/f") == b"before on the twin"
    assert disk.read("g") == b"before, and after"
    twin.power_cut("lose_all", random.Random(0))
    assert twin.reboot().tree() == {"d": None}, "what the first synced is not synced on its twin"


def test_a_tape_gives_every_outcome_once_and_draws_only_where_there_are_too_many() -> None:
    def three_questions(tape: Tape) -> tuple[int, str, str]:
        return tape.randint(0, 2), tape.choice("ab"), tape.choice("xyz") if tape.given[0][0] else "-"

    outcomes = dict(every_outcome(three_questions, 100))
    assert len(outcomes) == len(set(outcomes.values())) == 2 + 2 * 6
    assert outcomes["2.1.0"] == (2, "b", "x")
    assert len(list(every_outcome(three_questions, 1))) == 1


def test_every_torn_outcome_of_a_small_disk_is_tried() -> None:
    disk = ForkingDisk()
    handle = disk.create("f")
    disk.write(handle, b"1234")
    found = {word: each.tree() for word, each in Point(disk).cuts(100)}
    torn = [tree for word, tree in found.items() if word.startswith("before.torn")]
    assert {str(tree.get("f")) for tree in torn} == {"None", "b''", "b'12'", "b'1234'", str(bytes(4))}
    assert found["before.lose_all"] == {}
    assert found["before.keep_all"] == {"f": b"1234"}


def test_a_violation_is_repeated_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_a_sync(disk: SimDisk, path: str, data: bytes) -> None:
        handle = disk.create(path)
        disk.write(handle, data)
        disk.close(handle)

    scenario = next(each for each in DURABLE if each.name == "write_file: replace")
    found = Sweep(scenario).run()
    assert not found.violations
    monkeypatch.setattr(durable, "write_new", without_a_sync)
    found = Sweep(scenario).run()
    assert found.violations
    for path, why in found.violations:
        assert ProtocolReplay(scenario).run(path), f"{path}: {why}"
    monkeypatch.undo()
    for path, _ in found.violations:
        with_the_sync = ProtocolReplay(scenario).run(path)
        assert not with_the_sync or "ended before" in with_the_sync
