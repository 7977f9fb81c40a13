"""What the checkers of one universe hold the disk against: what people did, and what the house announced.

It outlives every life of the daemon. The checkers share no code with what they check but the record formats, and the
chain arithmetic of the simulated engine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import msgspec

from actors.checkpointer.head import HEAD_PATH, TRAINER_STATE, Head, decode, decode_state
from messages import LearningState
from runtime.simulation.disk import SimDisk
from tools.simulated_house.engine import ADAPTER, Weights
from tools.simulated_house.people import Deed, Plan

PLACES = ("inbox", "state/batches", "trained", "rejected", "failed")
"""Where a dropped file may be."""


class Rotten(msgspec.Struct):
    """A folder in which a bit has turned: which of that name it was, how many strikes there had been, was it told?"""

    inode: int
    strikes: int
    told: bool = False


class Evidence:
    """See the module.

    Attributes:
        contents: of each mark.
        arrived: how many files of each mark are in the house: dropped, and not taken back or replaced since.
        uploading: names of what is being uploaded, with what of it has arrived.
        deeds: what people still have to do.
        awaited: what they do as soon as something is announced; ``announced`` is told of it.
        weights, stepped_at: what the engine holds, ``None`` where it is not to be trusted; when it took its last step.
        paused_at: when a person said to hold, as long as that stands, or the life began since.
        jumped: was a clock ever set?
        generation, ledger: the newest announced as committed.
        refused: nights whose merged model was refused.
        learnt: batches that ended, in the order in which commits first told of it.
        rotten: folders in which a bit has turned; ``night_lost``: one of them was a night that could be gone back to.
        pinned: what was answered as pinned, by kind and name, and nobody has asked to unpin since.
        let_go_at: when somebody last asked for that, or it was told that HEAD let go of what is damaged. What is not
            needed for it any more goes when retention comes next.
        in_training: the batch that was announced as begun and not yet as ended; ``""`` if there is none.
    """

    def __init__(self, plan: Plan) -> None:
        self.contents = plan.contents
        self.marks = {data: mark for mark, data in plan.contents.items()}
        self.deeds: list[Deed] = list(plan.deeds)
        self.awaited: list[Deed] = []
        self.announced: Callable[[str], None] = _nobody_waits
        self.arrived: Counter[str] = Counter()
        self.uploading: dict[str, bytes] = {}
        self.paused = False
        self.generation = 0
        self.ledger: tuple[str, ...] = ()
        self.refused: list[str] = []
        self.learnt: list[str] = []
        self.weights: Weights | None = None
        self.stepped_at = 0.0
        self.paused_at: float | None = None
        self.jumped = False
        self.pinned: list[tuple[str, str]] = []
        self.let_go_at = -math.inf
        self.in_training = ""
        self.rotten: dict[str, Rotten] = {}
        self.night_lost = False
        self.counts: Counter[str] = Counter()


def _nobody_waits(_: str) -> None:
    """Between two lives nobody hears what is announced."""


def read_head(disk: SimDisk) -> Head | None:
    """HEAD, if anything was ever committed."""
    if disk.stat(HEAD_PATH) is None:
        return None
    return disk.understood(HEAD_PATH, _head)


def read_state(disk: SimDisk, folder: str) -> LearningState:
    """The counters of a generation."""
    return disk.understood(f"{folder}/{TRAINER_STATE}", _state)


def read_weights(disk: SimDisk, folder: str) -> Weights:
    """The adapter of a generation or of a delta."""
    return disk.understood(f"{folder}/{ADAPTER}", _weights)


def _head(data: bytes) -> Head:
    return decode(data, Head, HEAD_PATH)


def _state(data: bytes) -> LearningState:
    return decode_state(data, TRAINER_STATE)


def _weights(data: bytes) -> Weights:
    return msgspec.json.decode(data, type=Weights)
