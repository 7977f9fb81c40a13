"""What must hold, asked of the disk alone: after every power cut, after every start, and at the end.

Each checker raises ``Violation`` with a sentence. They share no code with what they check but the record formats, and
the chain arithmetic of the simulated engine.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import msgspec

from actors.checkpointer.head import GENERATIONS, HEAD_PATH, TRAINER_STATE, Head, decode, decode_state
from actors.checkpointer.store import Damaged, verify
from messages import Delta, Receipt, Report
from runtime import durable
from runtime.disk import DiskPort
from runtime.simulation.disk import SimDisk
from tools.simulated_house.engine import (
    ADAPTER,
    NOT_FINITE,
    PRISTINE,
    WEIGHTS,
    Weights,
    fresh,
    lines_of_file,
    merged,
    steps_of,
    train,
)

TRANSIENT = ("NF-TRAIN-011", "NF-DISK-003", "NF-RUN-010")
"""Codes of troubles that are the weather's fault and not the file's: such a file may end in ``failed/``."""
PLACES = ("inbox", "state/batches", "trained", "rejected", "failed")


class Violation(AssertionError):
    """A promise is broken."""


def read_head(disk: DiskPort) -> Head | None:
    """HEAD, if anything was ever committed."""
    if disk.stat(HEAD_PATH) is None:
        return None
    return decode(disk.read(HEAD_PATH), Head, HEAD_PATH)


def each_file_is_in_one_place(disk: SimDisk, contents: Mapping[str, bytes], arrived: set[str]) -> None:
    """Promise 6: every dropped file, told by its content, is in exactly one place."""
    found = Counter(
        data
        for path, data in disk.tree().items()
        if isinstance(data, bytes) and path.startswith(PLACES) and path.endswith(".jsonl")
    )
    for mark in sorted(arrived):
        if found[contents[mark]] != 1:
            raise Violation(f"the file {mark} is in {found[contents[mark]]} places")


def head_always_loads(disk: DiskPort) -> Head | None:
    """Promises 1 and 5: HEAD decodes, all that it keeps verifies, its models are there."""
    head = read_head(disk)
    if head is None:
        return None
    for kept in head.kept:
        try:
            verify(disk, kept.path, kept.manifest)
        except Damaged as error:
            raise Violation(f"HEAD keeps what is not sound: {error}") from error
        if kept.model_path and disk.stat(f"{kept.model_path}/{WEIGHTS}") is None:
            raise Violation(f"generation {kept.generation} stands on {kept.model_path}, which is gone")
    for delta in head.deltas:
        try:
            verify(disk, delta.path, delta.digest)
        except Damaged as error:
            raise Violation(f"the ledger's delta is not sound: {error}") from error
    return head


def acknowledged_is_durable(head: Head | None, generation: int, ledger: tuple[str, ...]) -> None:
    """What was announced as committed survived; the ledger only grew.

    A night whose announcement was lost with the power may stand before one that was announced.
    """
    stands = head.generation if head else 0
    if stands < generation:
        raise Violation(f"generation {generation} was announced, and {stands} is in force")
    nights = head.ledger if head else ()
    if tuple(night for night in nights if night in ledger) != ledger:
        raise Violation(f"the ledger was {ledger} and is {nights}")


def one_night_a_date(head: Head) -> None:
    """Nights that were due are due on different dates."""
    dates = Counter(delta.due_date for delta in head.deltas if delta.due_date)
    if any(count > 1 for count in dates.values()):
        raise Violation(f"a date had more than one night: {dates}")


def everything_has_its_outcome(disk: SimDisk, contents: Mapping[str, bytes], arrived: set[str]) -> None:
    """Liveness: with the faults gone, every file ends in ``trained/``, ``rejected/`` or ``failed/`` with its paper."""
    for path, data in disk.tree().items():
        if isinstance(data, bytes) and path.startswith(("inbox/", "state/batches/")) and path.endswith(".jsonl"):
            raise Violation(f"{path} has no outcome")
        if (
            isinstance(data, bytes)
            and path.startswith(("trained/", "rejected/", "failed/"))
            and path.endswith(".jsonl")
        ):
            kind = "receipt" if path.startswith("trained/") else "report"
            if disk.stat(f"{path}.{kind}.json") is None:
                raise Violation(f"{path} lies without its {kind}")
    by_content = {data: path for path, data in disk.tree().items() if isinstance(data, bytes)}
    for mark in sorted(arrived):
        data = contents[mark]
        folder = by_content[data].split("/")[0]
        gave_up = folder == "failed" and _report(disk, by_content[data]).trouble.code in TRANSIENT
        if folder != expected_folder(data) and not gave_up:
            raise Violation(f"{mark} ended in {folder}/, expected {expected_folder(data)}/")


def _report(disk: SimDisk, path: str) -> Report:
    return msgspec.json.decode(disk.read(f"{path}.report.json"), type=Report)


def expected_folder(data: bytes) -> str:
    """Where a file of this content must end."""
    lines = lines_of_file(data)
    if not lines or any(b'"txt"' in line for line in lines):
        return "rejected"
    return "failed" if any(b"poison" in line for line in lines) else "trained"


def no_leftovers(disk: SimDisk) -> None:
    """After an orderly stop nothing half-done lies about, and only what HEAD reaches lies under ``state/``."""
    head = read_head(disk)
    reached = {kept.path for kept in head.kept} if head else set()
    for path in disk.tree():
        name = path.rsplit("/", 1)[-1]
        if name.startswith(".") and name.endswith((".tmp", ".part", ".deleting")):
            raise Violation(f"{path} was left behind")
        if path.startswith(f"{GENERATIONS}/") and path.count("/") == 2 and path not in reached:
            raise Violation(f"{path} is reached by nothing")


def status_is_true(disk: DiskPort) -> None:
    """Promise 8: after an orderly stop the status says stopped, and counts what is there."""
    page = json.loads(disk.read("status/training_status.json"))
    if page["state"] != "stopped" or page["batch"] is not None:
        raise Violation(f"the daemon has stopped and status says {page['state']}")
    for folder in ("trained", "rejected", "failed"):
        there = sum(name.endswith(".jsonl") for name in disk.listdir(folder))
        if page["counts"][folder] != there:
            raise Violation(f"status counts {page['counts'][folder]} in {folder}/, there are {there}")


def learning_is_exact(disk: SimDisk, seed: int = 0) -> None:
    """Promise 2: the weights are those of a run in which nothing went wrong: no step skipped, none repeated.

    Computed from the receipts and reports, the files beside them and the ledger, in the order of their batches.
    """
    head = read_head(disk)
    if head is None:
        raise Violation("nothing was ever committed")
    state = decode_state(disk.read(f"{head.generation_path}/{TRAINER_STATE}"), TRAINER_STATE)
    if state.cursor is not None:
        raise Violation(f"batch {state.cursor.batch} is still open")
    learner = _Undisturbed(disk.read(PRISTINE).decode(), list(head.deltas_in_force()), seed)
    for data, counted in _outcomes(disk):
        learner.train(data, counted)
    learner.end()
    weights = msgspec.json.decode(disk.read(f"{head.generation_path}/{ADAPTER}"), type=Weights)
    if learner.step != state.global_step:
        raise Violation(f"the files account for {learner.step} steps, the state for {state.global_step}")
    if (weights.chain, weights.base) != (learner.chain, learner.base):
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


def _outcomes(disk: SimDisk) -> list[tuple[bytes, int]]:
    """(content, steps counted) of every file that reached the engine, in order of the batches' numbers."""
    found: list[tuple[int, bytes, int]] = []
    tree = disk.tree()
    for path, paper in tree.items():
        if not isinstance(paper, bytes):
            continue
        if path.startswith("trained/") and path.endswith(".receipt.json"):
            receipt = msgspec.json.decode(paper, type=Receipt)
            counted = receipt.last_global_step - receipt.first_global_step + 1
            found.append((int(receipt.batch), _beside(tree, path, ".receipt.json"), counted))
        elif path.startswith("failed/") and path.endswith(".report.json"):
            report = msgspec.json.decode(paper, type=Report)
            found.append((int(report.batch), _beside(tree, path, ".report.json"), report.steps_kept))
    return [(data, counted) for _, data, counted in sorted(found, key=lambda entry: entry[0])]


def _beside(tree: Mapping[str, bytes | str | None], paper: str, ending: str) -> bytes:
    data = tree.get(paper.removesuffix(ending))
    if not isinstance(data, bytes):
        raise Violation(f"{paper} lies without its file")
    return data
