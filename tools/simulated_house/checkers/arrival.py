"""Files are taken in order of arrival: what was dropped first has the lower number."""

from __future__ import annotations

from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence


class FilesAreTakenInOrder:
    """Asked at each claim. Uploads are left out: when one of them has arrived is a matter of its last byte."""

    promise = "files are taken in order of arrival"
    when: tuple[Moment, ...] = ("operation",)

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def check(self, trial: Trial) -> None:
        _, operation, path = trial.writing
        if operation != "rename" or not path.startswith("inbox/") or self._evidence.jumped:
            return
        disk, taken = trial.disk, path.partition(" -> ")[0]
        arrived = disk.stat(taken)
        for name in disk.listdir("inbox"):
            found = disk.stat(f"inbox/{name}")
            if arrived is None or found is None or not name.endswith(".jsonl") or name.startswith("upload-"):
                continue
            if found.changed_ns < arrived.changed_ns:
                raise Violation(f"{taken} is taken before {name}, which came first")
