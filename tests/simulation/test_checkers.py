"""Each checker sees its promise broken: in a house that lies, loses, repeats, or writes what is another's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from actors.checkpointer.head import Head, Kept
from actors.checkpointer.healing import Found, Healer
from actors.checkpointer.store import Store
from actors.consolidator import actor as consolidator
from actors.inbox_watcher import actor as inbox_watcher
from actors.inbox_watcher.filing import Claimed, file_away
from actors.status_reporter.actor import StatusReporter
from actors.status_reporter.page import Counts, Folder
from actors.trainer.actor import Trainer
from actors.trainer.jobs import DeviceJobs
from actors.validator.actor import Validator
from messages import BatchAccepted, BatchClaimed, LearningState, Message, Receipt, Report, StepsTaken
from runtime import durable
from runtime.disk import DiskPort
from runtime.simulation.strikes import read
from runtime.simulation.trial import Violation
from tools.simulated_house import universe
from tools.simulated_house.checkers.evidence import read_head
from tools.simulated_house.checkers.keeping import WhatGoesWasForetold
from tools.simulated_house.checkers.leftovers import NoLeftovers
from tools.simulated_house.checkers.nights import NightsComeWhenTheyAreOwed
from tools.simulated_house.checkers.retention import WhatHeadNamesIsLeftAlone
from tools.simulated_house.universe import Universe

SEED = 2
"""A seed whose day has files of each kind, and a night."""


def broken_promise(faults: str = "", seed: int = SEED, days: float = 1.0) -> tuple[str, str]:
    found = Universe(seed, days, faults=read(faults)).run()
    return found.promise, found.violation


def test_without_a_lie_no_promise_is_broken() -> None:
    assert broken_promise() == ("", "")


def test_a_file_that_is_copied_is_in_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(disk: DiskPort, claimed: Claimed, folder: str, paper: Receipt | Report) -> str:
        data = disk.read(claimed.path)
        path = file_away(disk, claimed, folder, paper)
        durable.write_file(disk, f"{folder}/copy-of-{claimed.name}", data)
        return path

    monkeypatch.setattr(inbox_watcher, "file_away", copied)
    promise, why = broken_promise()
    assert promise == "a file is in one place"
    assert "is in 2 places, expected 1" in why


def test_a_file_that_is_deleted_is_in_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def deleted(disk: DiskPort, claimed: Claimed, folder: str, paper: Receipt | Report) -> str:
        path = file_away(disk, claimed, folder, paper)
        disk.unlink(path)
        return path

    monkeypatch.setattr(inbox_watcher, "file_away", deleted)
    assert broken_promise()[0] == "a file is in one place"


def test_a_rejected_file_among_the_trained_ones_has_a_wrong_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def misfiled(disk: DiskPort, claimed: Claimed, folder: str, paper: Receipt | Report) -> str:
        return file_away(disk, claimed, "failed" if folder == "rejected" else folder, paper)

    monkeypatch.setattr(inbox_watcher, "file_away", misfiled)
    promise, why = broken_promise()
    assert promise in ("everything dropped gets its outcome", "no step is skipped or repeated")
    assert why


def test_a_validator_that_is_silent_leaves_files_without_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(self: Validator, claimed: BatchClaimed) -> None:
        return None

    check = Validator.__dict__["check"]
    monkeypatch.setattr(Validator, check.__name__, _with_marks(check, silent))
    promise, why = broken_promise()
    assert promise == "everything dropped gets its outcome"
    assert "h of calm these got no outcome" in why


def _with_marks(real: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """The fake as a handler: with the annotations and the marks that ``on`` left on the real one."""
    fake.__annotations__ = dict(real.__annotations__)
    fake.__dict__.update(real.__dict__)
    return fake


def test_head_that_keeps_what_is_pruned_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def trimmed(_: Store, head: Head, __: Kept) -> Head:
        return head

    def prunable(self: Store) -> list[str]:
        assert self.head is not None
        return [kept.path for kept in self.head.kept[:-3]]

    monkeypatch.setattr(Store, "_trimmed", trimmed)
    monkeypatch.setattr(Store, "_prunable", prunable)
    for earlier in (WhatHeadNamesIsLeftAlone, WhatGoesWasForetold):  # which see it at the first delete
        monkeypatch.setattr(earlier, "when", ())
    monkeypatch.setattr(universe, "BOUNDED_SHARE", 0.0)
    promise, why = broken_promise()
    assert promise == "HEAD loads"
    assert "which is gone" in why or "not sound" in why


def test_a_ledger_that_forgets_a_night_is_seen_at_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store._put_in_force

    def forgets(self: Store, head: Head, kept: Kept) -> Head:
        return real(self, head, replace(kept, ledger=kept.ledger[1:] if len(kept.ledger) > 1 else kept.ledger))

    monkeypatch.setattr(Store, "_put_in_force", forgets)
    assert broken_promise(days=4.0)[0] == "the ledger only grows"


def test_two_nights_of_one_date_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consolidator, "owed", lambda *_: "2026-01-10")
    monkeypatch.setattr(NightsComeWhenTheyAreOwed, "when", ())  # which sees that the first one is not owed
    assert broken_promise(days=4.0)[0] == "one night a date"


def test_a_commit_that_is_announced_and_not_made_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(self: Store, head: Head, kept: Kept) -> Head:
        return replace(head, number=head.number + 1, generation=kept.generation, generation_path=kept.path)

    monkeypatch.setattr(Store, "_put_in_force", told)
    monkeypatch.setattr(Healer, "piece", lambda *_: Found())  # a scrub would write the HEAD that is missing
    for earlier in (NoLeftovers, WhatGoesWasForetold):  # which see generations that HEAD does not reach
        monkeypatch.setattr(earlier, "when", ("end",))
    assert broken_promise("1.kill@150:keep_all")[0] == "what is announced is durable"


def test_a_step_that_is_counted_twice_is_seen_at_the_next_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    real = DeviceJobs.snapshot

    def counted(self: DeviceJobs, state: LearningState) -> Any:
        taken = real(self, replace(state, global_step=state.global_step + bool(state.global_step)))
        return replace(taken, state=state) if isinstance(taken, StepsTaken) else taken

    real_commit = Store.commit

    def commit(self: Store, files: Mapping[str, bytes], state: LearningState, why: str, now: str) -> Kept:
        # Both counters, for the store itself refuses those that do not go on together.
        twice = replace(state, global_step=state.global_step * 2, adapter_step=state.adapter_step * 2)
        return real_commit(self, files, twice, why, now)

    monkeypatch.setattr(DeviceJobs, "snapshot", counted)
    monkeypatch.setattr(Store, "commit", commit)
    promise, why = broken_promise()
    assert promise == "no step is skipped or repeated"
    assert "a commit went from step 0 to" in why


def test_a_file_of_another_actor_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    real = DeviceJobs.open_batch

    def meddles(self: DeviceJobs, state: LearningState, accepted: BatchAccepted) -> Any:
        disk = self._engine._disk  # type: ignore[attr-defined]
        durable.write_file(disk, "state/note", b"trained by me")
        return real(self, state, accepted)

    monkeypatch.setattr(DeviceJobs, "open_batch", meddles)
    promise, why = broken_promise()
    assert promise == "one writer per file"
    assert why.startswith("trainer did create state/")


def test_a_status_that_counts_a_file_twice_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    real = StatusReporter._count

    def twice(self: StatusReporter) -> Counts:
        found = real(self)
        return Counts(found.trained, 2 * found.rejected, found.failed)

    monkeypatch.setattr(StatusReporter, "_count", twice)
    promise, why = broken_promise()
    assert promise == "status is true"
    assert "status counts" in why


def test_a_status_that_still_trains_when_nothing_does_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "_state", lambda self: ("training", "always"))
    promise, why = broken_promise()
    assert promise == "status is true"
    assert "status says that" in why


def test_a_trainer_that_begins_a_batch_before_the_other_has_ended_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Trainer.send

    async def twice(self: Trainer, message: Message) -> None:
        await real(self, message)
        if type(message).__name__ == "BatchStarted":
            await real(self, replace(message, batch="999999"))

    monkeypatch.setattr(Trainer, "send", twice)
    promise, why = broken_promise()
    assert promise == "one batch in training"
    assert why.startswith("batch 999999 began while ")


def test_a_model_that_nothing_needs_is_a_leftover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consolidator.Consolidator, "_remove_unneeded", lambda self, needed: None)
    shown: list[int] = []
    real = durable.show_directory
    universe = Universe(SEED, faults=())

    def noted(disk: DiskPort, staged: str, path: str) -> None:
        real(disk, staged, path)
        life = universe._trial.life
        assert life is not None
        shown.append(life.operations)

    monkeypatch.setattr(durable, "show_directory", noted)
    assert universe.run().violation == ""
    promise, why = broken_promise(f"1.kill@{shown[0] + 2}:keep_all")
    assert promise == "no leftovers"
    assert why.startswith("consolidated_models/")


@pytest.mark.parametrize("seed", [0, 6])
def test_a_batch_that_takes_hours_to_open_had_its_room_before_the_disk_filled(seed: int) -> None:
    full_now_and_then = " ".join(f"1.disk_full@{at}:0:2400" for at in range(3000, 80_000, 9000))
    outcome = Universe(
        seed, 1.0, faults=read(f"1.device_hangs@trainer,over,BatchAccepted#1::7200 {full_now_and_then}")
    ).run()
    assert outcome.faults["device_hangs"] == 1
    assert not outcome.violation, outcome


def test_a_model_made_anew_that_was_not_put_in_its_place_goes_with_the_one_it_was_made_for() -> None:
    living = Universe(SEED, 4.0, faults=())
    assert living.run().violation == ""
    trial = living._trial
    (checker,) = (one for one in trial._checkers["operation"] if isinstance(one, WhatGoesWasForetold))
    trial.moment = "operation"
    head = read_head(trial.disk)
    assert head is not None
    needed, other = durable.hidden(head.model_path, "whole"), durable.hidden("consolidated_models/gone", "whole")
    trial.writing = ("consolidator", "rename", f"{other} -> {durable.hidden(other, 'deleting')}")
    checker.check(trial)
    trial.writing = ("consolidator", "rename", f"{needed} -> {durable.hidden(needed, 'deleting')}")
    with pytest.raises(Violation, match="all that is left of a model that HEAD needs"):
        checker.check(trial)
