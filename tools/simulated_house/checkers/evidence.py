"""What the checkers of one universe hold the disk against: what people did, and what the house announced.

It outlives every life of the daemon. The checkers share no code with what they check but the record formats, and the
chain arithmetic of the simulated engine.
"""

from __future__ import annotations

from collections import Counter

from actors.checkpointer.head import HEAD_PATH, Head, decode
from runtime.disk import DiskPort
from tools.simulated_house.people import Deed, Plan

PLACES = ("inbox", "state/batches", "trained", "rejected", "failed")
"""Where a dropped file may be."""


class Evidence:
    """See the module.

    Attributes:
        contents: of each mark.
        arrived: how many files of each mark are in the house: dropped, and not taken back or replaced since.
        uploading: names of what is being uploaded, with what of it has arrived.
        deeds: what people still have to do.
        generation, ledger: the newest announced as committed.
        in_training: the batch that was announced as begun and not yet as ended; ``""`` if there is none.
    """

    def __init__(self, plan: Plan) -> None:
        self.contents = plan.contents
        self.marks = {data: mark for mark, data in plan.contents.items()}
        self.deeds: list[Deed] = list(plan.deeds)
        self.arrived: Counter[str] = Counter()
        self.uploading: dict[str, bytes] = {}
        self.paused = False
        self.generation = 0
        self.ledger: tuple[str, ...] = ()
        self.in_training = ""
        self.counts: Counter[str] = Counter()


def read_head(disk: DiskPort) -> Head | None:
    """HEAD, if anything was ever committed."""
    if disk.stat(HEAD_PATH) is None:
        return None
    return decode(disk.read(HEAD_PATH), Head, HEAD_PATH)
