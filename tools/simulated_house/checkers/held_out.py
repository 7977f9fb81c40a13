"""What is held out of a file is the same after a crash, and goes with every generation; a night refused is none."""

from __future__ import annotations

from messages import BatchTrained
from messages.held_out import HELD_OUT, HeldOutWindow, read_held_out
from runtime import durable
from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence, read_head, read_state
from tools.simulated_house.engine import held_out_count, held_out_of, lines_of_file, windows_of


class WhatIsHeldOutIsKept:
    """The slice of the newest file is chosen from its content, and its tokens lie in the generation in force."""

    promise = "what is held out is kept"
    when: tuple[Moment, ...] = ("commit", "reboot", "end")

    def __init__(self, evidence: Evidence) -> None:
        self._files = {durable.digest_of_bytes(data): data for data in evidence.contents.values()}
        self._windows: dict[tuple[str, int], list[HeldOutWindow]] = {}
        self._newest = ""

    def check(self, trial: Trial) -> None:
        head = read_head(trial.disk)
        if head is None:
            return
        state = read_state(trial.disk, head.generation_path)
        held_out = trial.disk.understood(f"{head.generation_path}/{HELD_OUT}", read_held_out)
        kept = {one.digest: one.windows for one in held_out.slices}
        told = [(one.receipt.digest, one.receipt.held_out) for one in state.unfiled if isinstance(one, BatchTrained)]
        told += [(state.cursor.digest, state.cursor.held_out)] if state.cursor is not None else []
        for digest, count in told:
            lines = lines_of_file(self._files[digest])
            if count != (due := held_out_count(lines)):
                raise Violation(f"of {len(lines)} examples {count} are said to be held out, not {due}")
        # An older one may have been thinned out by newer ones; the newest has its place.
        newest = [digest for digest, count in told if count][-1:]
        if newest:
            self._newest = newest[0]
        elif trial.moment == "reboot" and self._newest not in kept:
            self._newest = ""  # the power cut took its commit back
        if not self._newest:
            return
        expected = self._windows_of(self._newest, state.seed)
        found = kept.get(self._newest, ())
        if not found or list(found) != expected[: len(found)]:
            raise Violation(f"{HELD_OUT} of generation {head.generation} does not hold the slice of the newest file")

    def _windows_of(self, digest: str, seed: int) -> list[HeldOutWindow]:
        """What is held out of a file, worked out once."""
        windows = self._windows.get((digest, seed))
        if windows is None:
            lines = lines_of_file(self._files[digest])
            windows = windows_of(lines, held_out_of(lines, seed, digest, held_out_count(lines)))
            self._windows[digest, seed] = windows
        return windows


class ARefusedNightLeavesYesterday:
    """No model that was refused is ever in the ledger."""

    promise = "a refused night leaves yesterday"
    when: tuple[Moment, ...] = ("commit", "reboot", "end")

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def check(self, trial: Trial) -> None:
        head = read_head(trial.disk)
        in_force = {delta.night for delta in head.deltas_in_force()} if head is not None else set()
        for night in self._evidence.refused:
            if night in in_force:
                raise Violation(f"night {night} was refused, and is in the ledger")
