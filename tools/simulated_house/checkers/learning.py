"""No step is skipped and none repeated: weights are those of a run in which nothing went wrong.

Asked twice, in different ways: after each commit, from the generation before it; and at the end, from the papers alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.checkpointer.head import Head, Kept
from messages import BatchFailed, BatchTrained, Delta, LearningState, Receipt, Report
from runtime import durable
from runtime.simulation.disk import SimDisk
from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence, read_head, read_state, read_weights
from tools.simulated_house.engine import (
    NOT_FINITE,
    PRISTINE,
    Weights,
    fresh,
    lines_of_file,
    merged,
    steps_of,
    train,
)

ORDER_SECONDS = 6 * 3600.0
"""So long after the last trouble nothing overtakes any more. What was down for an hour has not recovered meanwhile."""


class Learnt(msgspec.Struct, frozen=True):
    """What one generation holds."""

    state: LearningState
    weights: Weights


class EachCommitGoesOn:
    """Each generation holds the one before it and the steps its cursor tells of, no more and no fewer."""

    promise = "no step is skipped or repeated"
    when: tuple[Moment, ...] = ("commit", "reboot")

    def __init__(self, evidence: Evidence) -> None:
        self._files = {durable.digest_of_bytes(data): data for data in evidence.contents.values()}
        self._steps: dict[tuple[str, int], list[list[bytes]]] = {}
        self._evidence = evidence
        self._last: Learnt | None = None
        self._generation = 0

    def check(self, trial: Trial) -> None:
        head = read_head(trial.disk)
        if head is None:
            self._last = None
            return
        if trial.moment == "commit" and head.generation == self._generation:
            return
        found = _learnt(trial.disk, head.in_force)
        self._note_order(trial, found)
        if trial.moment == "commit" and self._last is not None:
            if head.in_force.ledger and found.state.adapter_id != self._last.state.adapter_id:
                self._check_night(trial.disk, head, found)
            else:
                self._check_steps(self._last, found)
        self._last, self._generation = found, head.generation

    def _note_order(self, trial: Trial, found: Learnt) -> None:
        """Batches are learnt in the order of their numbers, unless who trains or announces them has just crashed."""
        learnt = self._evidence.learnt
        known = {outcome.batch for outcome in self._last.state.unfiled} if self._last is not None else set()
        for outcome in found.state.unfiled:
            if outcome.batch in known:
                continue
            if outcome.batch in learnt:  # a power cut had taken it back
                learnt.remove(outcome.batch)
            later = [batch for batch in learnt if int(batch) > int(outcome.batch)]
            learnt.append(outcome.batch)
            if later and trial.moment == "commit" and trial.undisturbed_for(ORDER_SECONDS):
                raise Violation(f"batch {outcome.batch} was learnt after {', '.join(later)}")

    def _check_night(self, disk: SimDisk, head: Head, found: Learnt) -> None:
        chains = [_chain_of(disk, delta) for delta in head.deltas_in_force()]
        base = merged(disk.read(PRISTINE).decode(), chains)
        state = found.state
        if chains[-1:] != [self._last.weights.chain if self._last else ""]:
            raise Violation("the night folded another adapter than the one in force")
        if found.weights != Weights(fresh(base, state.adapter_id, state.seed), base, 0):
            raise Violation("the night's fresh adapter does not stand on the sum of all nights")

    def _check_steps(self, last: Learnt, found: Learnt) -> None:
        before, after = last.state, found.state
        chain, step = last.weights.chain, before.global_step
        known = {outcome.batch for outcome in before.unfiled}
        ended = [outcome for outcome in after.unfiled if outcome.batch not in known]
        cursor = before.cursor
        for outcome in ended:
            if isinstance(outcome, BatchTrained):
                begun = cursor.step if cursor is not None and cursor.batch == outcome.batch else 0
                chain, step = self._trained(chain, step, outcome.receipt.digest, after.seed, begun, None)
            elif isinstance(outcome, BatchFailed) and cursor is not None and cursor.batch == outcome.batch:
                expected = before.global_step - cursor.first_global_step
                if outcome.report.steps_kept != expected:
                    raise Violation(
                        f"{outcome.batch} failed with {outcome.report.steps_kept} steps kept, not {expected}"
                    )
        if after.cursor is not None:
            resumed = cursor is not None and cursor.batch == after.cursor.batch
            begun = cursor.step if resumed and cursor is not None else 0
            chain, step = self._trained(chain, step, after.cursor.digest, after.seed, begun, after.cursor.step)
        if (step, chain) != (after.global_step, found.weights.chain):
            raise Violation(
                f"a commit went from step {before.global_step} to {after.global_step}; "
                f"its cursor and outcomes tell of {step}, or of other examples"
            )

    def _trained(self, chain: str, step: int, digest: str, seed: int, begun: int, until: int | None) -> tuple[str, int]:
        for examples in self._steps_of(digest, seed)[begun:until]:
            if not any(NOT_FINITE in example for example in examples):
                chain = train(chain, examples)
                step += 1
        return chain, step

    def _steps_of(self, digest: str, seed: int) -> list[list[bytes]]:
        """Worked out once for each file, although nearly each of its steps is committed."""
        steps = self._steps.get((digest, seed))
        if steps is None:
            steps = self._steps[digest, seed] = steps_of(lines_of_file(self._files[digest]), seed, digest)
        return steps


def _learnt(disk: SimDisk, kept: Kept) -> Learnt:
    return Learnt(read_state(disk, kept.path), read_weights(disk, kept.path))


def _chain_of(disk: SimDisk, delta: Delta) -> str:
    return read_weights(disk, delta.path).chain


class LearningIsExact:
    """The weights follow from receipts and reports, the files beside them and the ledger, in the order of learning."""

    promise = "no step is skipped or repeated"
    when: tuple[Moment, ...] = ("end",)

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def check(self, trial: Trial) -> None:
        disk = trial.disk
        head = read_head(disk)
        if head is None:
            if any(disk.below("trained")):
                raise Violation("files were trained, and nothing was ever committed")
            return
        found = _learnt(disk, head.in_force)
        if found.state.cursor is not None:
            raise Violation(f"batch {found.state.cursor.batch} is still open")
        learner = _Undisturbed(disk.read(PRISTINE).decode(), list(head.deltas_in_force()), found.state.seed)
        place = {batch: number for number, batch in enumerate(self._evidence.learnt)}
        for _, data, counted in sorted(_outcomes(disk), key=lambda outcome: place.get(outcome[0], len(place))):
            learner.train(data, counted)
        learner.end()
        if learner.step != found.state.global_step:
            raise Violation(f"the files account for {learner.step} steps, the state for {found.state.global_step}")
        if (found.weights.chain, found.weights.base) != (learner.chain, learner.base):
            raise Violation(f"the weights are not those of an undisturbed run (at step {learner.step})")


class _Undisturbed:
    """Trains what the papers say was trained, with a night wherever the ledger has one."""

    def __init__(self, pristine: str, nights: list[Delta], seed: int) -> None:
        self._pristine = pristine
        self._nights = nights
        self._seed = seed
        self._folded: list[str] = []
        self.step = 0
        self.base = pristine
        self.chain = fresh(pristine, "a0001", seed)

    def train(self, data: bytes, counted: int) -> None:
        """``counted`` steps of a file; steps that are skipped for not being finite are not counted."""
        if counted:
            self._nights_due()
        digest = durable.digest_of_bytes(data)
        for examples in steps_of(lines_of_file(data), self._seed, digest):
            if counted == 0:
                break
            if any(NOT_FINITE in example for example in examples):
                continue
            self.chain = train(self.chain, examples)
            self.step += 1
            counted -= 1
        if counted:
            raise Violation(f"a paper speaks of {counted} steps more than its file has")

    def end(self) -> None:
        """What was folded after the last batch."""
        self._nights_due()
        if self._nights:
            raise Violation(f"night {self._nights[0].night} folded step {self._nights[0].global_step}, never reached")

    def _nights_due(self) -> None:
        if self._nights and self._nights[0].global_step == self.step:
            self._nights.pop(0)
            self._folded.append(self.chain)
            self.base = merged(self._pristine, self._folded)
            self.chain = fresh(self.base, f"a{len(self._folded) + 1:04d}", self._seed)


def _outcomes(disk: SimDisk) -> list[tuple[str, bytes, int]]:
    """(batch, content, steps counted) of every file that reached the engine, in order of the batches' numbers."""
    found: list[tuple[str, bytes, int]] = []
    tree = disk.tree()
    for path, paper in tree.items():
        if not isinstance(paper, bytes):
            continue
        if path.startswith("trained/") and path.endswith(".receipt.json"):
            receipt = msgspec.json.decode(paper, type=Receipt)
            counted = receipt.last_global_step - receipt.first_global_step + 1
            found.append((receipt.batch, _beside(tree, path, ".receipt.json"), counted))
        elif path.startswith("failed/") and path.endswith(".report.json"):
            report = msgspec.json.decode(paper, type=Report)
            found.append((report.batch, _beside(tree, path, ".report.json"), report.steps_kept))
    return sorted(found, key=lambda entry: int(entry[0]))


def _beside(tree: Mapping[str, bytes | str | None], paper: str, ending: str) -> bytes:
    data = tree.get(paper.removesuffix(ending))
    if not isinstance(data, bytes):
        raise Violation(f"{paper} lies without its file")
    return data
