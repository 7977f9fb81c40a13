"""Faults as data: each thing that went wrong in a universe is one small record, and a list of them can be given back.

``Strike`` says where it struck: in which life, at which place, and at which passing of it. A universe that is given the
list that another one of its seed recorded runs exactly as that one did; given a part of it, it runs with that part
alone. Places are counted one by one, so that what is left out of a list rarely moves the rest.

As text a strike is ``LIFE.KIND@PLACE#NTH``, with commas for the spaces in the place, then ``:HOW``, ``:SECONDS`` and
``:SEED`` as far as they are set: ``2.cut@rename,state/HEAD#3:torn:0:77`` is the third replacement of HEAD in the second
life. ``LIFE.KIND@POINT`` counts all occasions of the kind in that life. A list is such words with spaces between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from runtime.simulation.faults import Fault, IoError, NoSpace, PowerCut, ShortWrite, Survival

_WORD = re.compile(
    r"(?P<life>\d+)\.(?P<kind>\w+)@((?P<point>\d+)|(?P<place>[^#:\s]+)#(?P<nth>\d+))(:(?P<how>[\w.]*))?(:(?P<seconds>[\d.]+))?(:(?P<seed>\d+))?"
)
_REMARK = re.compile(r"(^|\s)#.*")
HALFWAY = ".halfway"
"""Ends ``how`` of a cut or kill that came half-way through its operation."""


class Strike(msgspec.Struct, frozen=True):
    """One fault.

    Attributes:
        life: of the program, counted from 1. Of what comes at a time of day, the life in which it began.
        kind: see ``CHANNELS``; or a kind of the trial's own.
        point: number of the occasion within the life: a disk operation, a moment of a handling, a job. Of what comes at
            a time of day, the second since the universe began.
        how: what a power cut leaves (``faults.Survival``), ``before`` or ``after``, or a figure.
        seconds: how long it lasts.
        seed: of what a torn cut leaves.
        place, nth: the kind of place, and which passing of it in this life. Given, they count, and ``point`` does not.
        where: for people: the operation and its very path, or the actor and message. It decides nothing.
    """

    life: int
    kind: str
    point: int
    how: str = ""
    seconds: float = 0.0
    seed: int = 0
    place: str = ""
    nth: int = 0
    where: str = ""

    def __str__(self) -> str:
        more = [self.how, f"{self.seconds:g}", str(self.seed)]
        for index, value in ((2, self.seed), (1, self.seconds), (0, self.how)):
            if value:
                break
            del more[index]
        at = f"{self.place.replace(' ', ',')}#{self.nth}" if self.place else str(self.point)
        return ":".join((f"{self.life}.{self.kind}@{at}", *more))

    def fault(self) -> Fault:
        """What the disk is told, of a strike that comes at one of its operations."""
        match self.kind:
            case "no_space":
                return NoSpace()
            case "short_write":
                return ShortWrite()
            case "io_error":
                return IoError()
        survival, _, halfway = self.how.partition(".")
        return PowerCut(_survival(survival), seed=self.seed, halfway=bool(halfway))


CHANNELS = {
    "cut": "cut",
    "kill": "cut",
    "no_space": "io",
    "short_write": "io",
    "io_error": "io",
    "crash": "crash",
    "job_raises": "job",
    "job_slow": "job",
    "device_raises": "device",
    "device_hangs": "device",
    "disk_full": "hours",
    "slow_disk": "hours",
    "bit_rot": "hours",
}
"""Which stream of chance each kind comes from. A kind that is not named here has a stream of its own name."""


def channel_of(kind: str) -> str:
    """The stream of chance that a kind comes from."""
    return CHANNELS.get(kind, kind)


def written(strikes: Iterable[Strike]) -> str:
    """A list as text."""
    return " ".join(map(str, strikes))


def read(text: str) -> tuple[Strike, ...]:
    """A list from its text; what follows a lone ``#`` on a line is for people.

    Raises:
        ValueError: a word is no strike; the text says which.
    """
    words = [word for line in text.splitlines() for word in _REMARK.sub("", line).split()]
    return tuple(map(_read_one, words))


def _read_one(word: str) -> Strike:
    found = _WORD.fullmatch(word)
    if found is None:
        raise ValueError(f"{word!r} is no strike: expected LIFE.KIND@PLACE#NTH[:HOW[:SECONDS[:SEED]]]")
    strike = Strike(
        int(found["life"]),
        found["kind"],
        int(found["point"] or 0),
        found["how"] or "",
        float(found["seconds"] or 0.0),
        int(found["seed"] or 0),
        (found["place"] or "").replace(",", " "),
        int(found["nth"] or 0),
    )
    if channel_of(strike.kind) == "cut":
        _survival(strike.how.partition(".")[0])
    return strike


def _survival(how: str) -> Survival:
    match how:
        case "lose_all" | "keep_all" | "torn":
            return how
    raise ValueError(f"{how!r} is not what a power cut leaves; it is lose_all, keep_all or torn")
