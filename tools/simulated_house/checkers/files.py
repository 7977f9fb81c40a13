"""No dropped file is ever lost or in two places, and in the end each lies where it belongs, beside its paper."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import msgspec

from messages import Report
from runtime import durable
from runtime.disk import DiskPort
from runtime.simulation.disk import SimDisk
from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import PLACES, Evidence
from tools.simulated_house.engine import held_out_count, held_out_of, lines_of_file

TRANSIENT = ("NF-TRAIN-011", "NF-DISK-003", "NF-RUN-010")
"""Codes of troubles that are the weather's fault and not the file's: such a file may end in ``failed/``."""

SEED = 0
"""Of every simulated home, for its config leaves it as it is."""


class EachFileIsInOnePlace:
    """Every file that people have in the house, told by its content, is there exactly once."""

    promise = "a file is in one place"
    when: tuple[Moment, ...] = ("commit", "quiet", "reboot", "stop", "end")

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._counted: dict[str, tuple[object, set[str], list[str]]] = {}

    def check(self, trial: Trial) -> None:
        evidence = self._evidence
        found = Counter(chain.from_iterable(self._marks_in(trial.disk, folder) for folder in PLACES))
        if found != evidence.arrived:
            for mark in sorted(evidence.arrived | found):
                if found[mark] != evidence.arrived[mark]:
                    raise Violation(f"the file {mark} is in {found[mark]} places, expected {evidence.arrived[mark]}")

    def _marks_in(self, disk: SimDisk, folder: str) -> list[str]:
        """The mark of each whole file below a folder, or its path. Looked for where something has changed."""
        state, uploading = disk.state_of(folder), set(self._evidence.uploading)
        known = self._counted.get(folder)
        if known is not None and state is not None and known[:2] == (state, uploading):
            return known[2]
        marks = [
            self._evidence.marks.get(data, path)
            for path, data in disk.below(folder)
            if path.endswith(".jsonl") and path.rpartition("/")[2] not in uploading
        ]
        self._counted[folder] = (state, uploading, marks)
        return marks


class EverythingHasItsOutcome:
    """With the weather gone, every file ends in ``trained/``, ``rejected/`` or ``failed/`` with its paper."""

    promise = "everything dropped gets its outcome"
    when: tuple[Moment, ...] = ("end",)

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def check(self, trial: Trial) -> None:
        disk = trial.disk
        for folder in PLACES:
            for path, data in disk.below(folder):
                if not path.endswith(".jsonl"):
                    continue
                place = path.partition("/")[0]
                if place in ("inbox", "state"):
                    raise Violation(f"{path} has no outcome")
                kind = "receipt" if place == "trained" else "report"
                if disk.stat(f"{path}.{kind}.json") is None:
                    raise Violation(f"{path} lies without its {kind}")
                gave_up = place == "failed" and _report(disk, path).trouble.code in TRANSIENT
                expected = expected_folder(data)
                if place != expected and not gave_up:
                    raise Violation(f"{path} belongs into {expected}/")


def _report(disk: DiskPort, path: str) -> Report:
    return msgspec.json.decode(disk.read(f"{path}.report.json"), type=Report)


def expected_folder(data: bytes) -> str:
    """Where a file of this content must end."""
    lines = lines_of_file(data)
    if not lines or any(b'"txt"' in line for line in lines):
        return "rejected"
    # What is held out is never trained, so it does no harm.
    held_out = held_out_of(lines, SEED, durable.digest_of_bytes(data), held_out_count(lines))
    learnt = [line for number, line in enumerate(lines) if number not in held_out]
    return "failed" if any(b"poison" in line for line in learnt) else "trained"
