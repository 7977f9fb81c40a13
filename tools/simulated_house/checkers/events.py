"""``events.jsonl`` holds each event whole and once."""

from __future__ import annotations

import json

from runtime.simulation.trial import Moment, Trial, Violation

EVENTS = "status/events.jsonl"
REPORTER = "status_reporter"
NO_EVENTS = ("Tick", "Stop", "InboxSurveyed", "DiskMeasured", "TrainingProgress", "RecordTrace")
"""What the reporter handles besides events."""


class EachEventIsWrittenOnce:
    """Of lives in which nothing went wrong: as many whole lines were added as events were handled.

    A power cut may take the end of the file with it, and a crashed reporter what it had not yet written.
    """

    promise = "each event is written once"
    when: tuple[Moment, ...] = ("reboot", "stop")

    def __init__(self) -> None:
        self._before = 0

    def check(self, trial: Trial) -> None:
        data = trial.disk.read(EVENTS) if trial.disk.stat(EVENTS) is not None else b""
        if trial.moment == "reboot":
            self._before = len(data)
            return
        if not trial.records or trial.records[0].number != 1 or not trial.went_well():
            return
        added = data[self._before :]
        lines = added.splitlines()
        for line in lines:
            json.loads(line)
        handled = sum(
            record.kind == "done" and record.recipient == REPORTER and record.type not in NO_EVENTS
            for record in trial.records
        )
        if len(lines) != handled:
            raise Violation(f"{handled} events were told, and {len(lines)} lines were written")
