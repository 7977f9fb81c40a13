"""Retention: what stays and what goes, and why. One answer for whoever asks: the store, the dry run, the history.

A pure function of HEAD, the bounds and what lies on the disk. Whatever the bounds say, these stay:
    * what is in force, and the two newest generations: no number is given twice, and damage costs little;
    * what a person pinned; with a night both its generations, and with anything the merged model that it stands on;
    * both ends of the last rollback, so that it can be undone;
    * the newest snapshot, and what was set aside last, to look at;
    * deltas and the pristine base: every merged model is made from them.
Of the rest the newest stay, as many as their number and their bytes allow. What stays anyway counts against the bytes,
and nothing older stays than the first that does not fit. A generation whose merged model does not fit under the models'
bytes goes with it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from actors.checkpointer.head import DELTAS, GENERATIONS, SET_ASIDE, SNAPSHOTS, Head, Kept, Night
from runtime import durable
from runtime.disk import DiskPort

MODELS = "consolidated_models"
FALL_BACK = 2
"""So many of the newest generations stay, whatever their size: should one turn out to be damaged, there is another."""

Kind = Literal["generation", "night", "model", "snapshot", "delta", "set_aside", "leftover"]


class Bounds(msgspec.Struct, frozen=True):
    """How much of each kind is kept; bytes are bounded where they are given. Nights are bounded by their models."""

    keep_generations: int
    keep_snapshots: int
    keep_nights: int
    generations_bytes_max: int | None = None
    snapshots_bytes_max: int | None = None
    nights_bytes_max: int | None = None
    set_aside_bytes_max: int | None = None
    keep_set_aside: int = 3


class Found(msgspec.Struct, frozen=True):
    """What lies on the disk: paths, oldest first, and the sizes of those that were measured."""

    generations: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    sizes: Mapping[str, int] = msgspec.field(default_factory=dict)


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of one thing, and why. A night has no path: it is a place in HEAD, and its model is told apart."""

    kind: Kind
    name: str
    path: str
    size_bytes: int
    stays: bool
    why: str
    pinned: bool = False


def survey(disk: DiskPort, head: Head | None, bounds: Bounds, *, measure: bool = False) -> Found:
    """Look at the disk. What no bound needs is measured only for people (``measure``), for it costs a walk."""
    sizes: dict[str, int] = {}

    def weigh(paths: Iterable[str], bound: int | None) -> None:
        if measure or bound is not None:
            sizes.update((path, durable.size_of(disk, path)) for path in paths if path)

    snapshots = tuple(_below(disk, SNAPSHOTS))
    aside = tuple(_oldest_first(disk, SET_ASIDE))
    models = tuple(_below(disk, MODELS))
    weigh(snapshots, bounds.snapshots_bytes_max)
    weigh(aside, bounds.set_aside_bytes_max)
    weigh(models, bounds.nights_bytes_max)
    leftovers = tuple(
        f"{folder}/{name}"
        for folder in (SNAPSHOTS, DELTAS)
        for name in _names(disk, folder)
        if durable.is_leftover(name)
    )
    generations = tuple(f"{GENERATIONS}/{name}" for name in _names(disk, GENERATIONS))
    if measure:
        weigh((*generations, *leftovers, *(delta.path for delta in (head.deltas if head else ()))), None)
    return Found(generations, snapshots, models, aside, leftovers, sizes)


def _names(disk: DiskPort, folder: str) -> list[str]:
    found = disk.stat(folder)
    return disk.listdir(folder) if found is not None and found.kind == "dir" else []


def _below(disk: DiskPort, folder: str) -> Iterator[str]:
    return (f"{folder}/{name}" for name in _names(disk, folder) if not name.startswith("."))


def _oldest_first(disk: DiskPort, folder: str) -> list[str]:
    ages = [(disk.stat(path), path) for path in _below(disk, folder)]
    return [path for _, _, path in sorted((age.changed_ns, len(path), path) for age, path in ages if age is not None)]


def judge(head: Head | None, bounds: Bounds, found: Found) -> tuple[Verdict, ...]:
    """Everything there is, each with what becomes of it; generations and nights as HEAD knows them."""
    verdicts: list[Verdict] = []
    if head is not None:
        verdicts += _Learning(head, bounds, found.sizes).verdicts()
    kept = {kept.path for kept in head.kept} if head else set()
    verdicts += [
        _verdict("generation", path, found, stays=False, why="HEAD does not keep it")
        for path in found.generations
        if path not in kept
    ]
    verdicts += _models(head, verdicts, found)
    verdicts += _newest_first(
        "snapshot",
        found.snapshots,
        found.sizes,
        bounds.keep_snapshots,
        bounds.snapshots_bytes_max,
        {f"{SNAPSHOTS}/{one.day}" for one in head.snapshots} if head else set(),
    )
    verdicts += [
        _verdict("delta", delta.path, found, stays=True, why="the ledger is kept for ever")
        for delta in (head.deltas if head else ())
    ]
    verdicts += _newest_first(
        "set_aside", found.set_aside, found.sizes, bounds.keep_set_aside, bounds.set_aside_bytes_max, set()
    )
    verdicts += [_verdict("leftover", path, found, stays=False, why="an interrupted write") for path in found.leftovers]
    return tuple(verdicts)


def trimmed(head: Head, verdicts: Iterable[Verdict]) -> Head:
    """``head`` without the generations and nights that go."""
    going = {(verdict.kind, verdict.name) for verdict in verdicts if not verdict.stays}
    return msgspec.structs.replace(
        head,
        kept=tuple(kept for kept in head.kept if ("generation", str(kept.generation)) not in going),
        nights=tuple(night for night in head.nights if ("night", night.night) not in going),
    )


def _verdict(kind: Kind, path: str, found: Found, *, stays: bool, why: str) -> Verdict:
    name = posixpath.basename(path)
    name = str(int(name)) if kind == "generation" and name.isdigit() else name
    return Verdict(kind, name, path, found.sizes.get(path, 0), stays, why)


class _Room:
    """Bytes that are still to be had; without a bound, as many as anybody wants."""

    def __init__(self, bytes_max: int | None, taken: int) -> None:
        self.bytes_max = bytes_max
        self._left = None if bytes_max is None else bytes_max - taken

    def take(self, size: int) -> bool:
        """Is there room for so many? Once something did not fit, there is none for anything older."""
        if self._left is None or size == 0:
            return True
        if size > self._left:
            self._left = 0
            return False
        self._left -= size
        return True

    @property
    def within(self) -> str:
        return "" if self.bytes_max is None else f", within {self.bytes_max} bytes"

    @property
    def beyond(self) -> str:
        return f"beyond {self.bytes_max} bytes"


class _Learning:
    """Generations and nights, which hold each other: a night its two generations, each generation its model."""

    def __init__(self, head: Head, bounds: Bounds, sizes: Mapping[str, int]) -> None:
        self._head = head
        self._bounds = bounds
        self._sizes = sizes
        self._kept = {kept.generation: kept for kept in head.kept}
        self._stay: dict[int, str] = {}
        self._go: dict[int, str] = {}
        self._hold_what_never_goes()
        stands_on = {self._kept[number].model_path for number in self._stay}
        self._models = {*stands_on, *(snapshot.model_path for snapshot in head.snapshots), ""}
        self._model_room = _Room(bounds.nights_bytes_max, sum(sizes.get(path, 0) for path in self._models))

    def verdicts(self) -> Iterator[Verdict]:
        """Nights first decide what they hold; generations are judged with that."""
        nights = list(self._nights())
        yield from self._generations()
        yield from reversed(nights)

    def _hold(self, number: int, why: str) -> None:
        if number in self._kept:
            self._stay.setdefault(number, why)

    def _hold_what_never_goes(self) -> None:
        head = self._head
        self._hold(head.generation, "in force")
        for kept in head.kept:
            if kept.pinned:
                self._hold(kept.generation, "pinned")
        for night in head.nights:
            if night.pinned:
                self._hold_night(night, f"stands under the pinned night {night.night}")
        if head.went_back is not None:
            self._hold(head.went_back.to, "what one went back to")
            self._hold(head.went_back.left, "left by going back")
        for kept in head.kept[-1:]:
            self._hold(kept.generation, "the newest")
        for kept in head.kept[-FALL_BACK:]:
            self._hold(kept.generation, "to fall back on")

    def _hold_night(self, night: Night, why: str) -> None:
        self._hold(night.generation, why)
        self._hold(night.folded, why)

    def _nights(self) -> Iterator[Verdict]:
        room, most = self._model_room, self._bounds.keep_nights
        for rank, night in enumerate(reversed(self._head.nights)):
            both = [self._kept[number] for number in (night.generation, night.folded) if number in self._kept]
            if night.pinned:
                stays, why = True, "pinned"
            elif rank >= most:
                stays, why = False, f"beyond the newest {most}"
            elif self._fits(both):
                stays, why = True, f"among the newest {most}{room.within}"
            else:
                stays, why = False, room.beyond
            if stays:
                self._hold_night(night, f"stands under night {night.night}")
            yield Verdict("night", night.night, "", 0, stays, why, night.pinned)

    def _fits(self, generations: Iterable[Kept]) -> bool:
        """Is there room for the models that these stand on? Then they have it."""
        more = {kept.model_path for kept in generations} - self._models
        if not self._model_room.take(sum(self._sizes.get(path, 0) for path in more)):
            return False
        self._models |= more
        return True

    def _generations(self) -> Iterator[Verdict]:
        head, most = self._head, self._bounds.keep_generations
        held = sum(self._kept[number].size_bytes for number in self._stay)
        room = _Room(self._bounds.generations_bytes_max, held)
        for rank, kept in enumerate(reversed(head.kept)):
            if kept.generation in self._stay:
                continue
            if rank >= most:
                self._go[kept.generation] = f"beyond the newest {most}"
            elif not self._fits([kept]):
                self._go[kept.generation] = f"the model it stands on is {self._model_room.beyond}"
            elif room.take(kept.size_bytes):
                self._stay[kept.generation] = f"among the newest {most}{room.within}"
            else:
                self._go[kept.generation] = room.beyond
        for number, kept in sorted(self._kept.items()):
            stays = number in self._stay
            why = self._stay[number] if stays else self._go[number]
            yield Verdict("generation", str(number), kept.path, kept.size_bytes, stays, why, kept.pinned)


def _models(head: Head | None, verdicts: Iterable[Verdict], found: Found) -> Iterator[Verdict]:
    """A merged model stays as long as anything that stays stands on it; the Consolidator, its owner, does the rest."""
    why: dict[str, str] = {}
    staying = {verdict.path for verdict in verdicts if verdict.stays and verdict.kind == "generation"}
    if head is not None:
        why = {one.model_path: f"the pinned snapshot {one.day} stands on it" for one in head.snapshots}
        why |= {
            kept.model_path: f"generation {kept.generation} stands on it" for kept in head.kept if kept.path in staying
        }
        why[head.model_path] = "in force"
    for path in found.models:
        yield _verdict("model", path, found, stays=path in why, why=why.get(path, "nothing that stays stands on it"))


def _newest_first(
    kind: Kind, paths: tuple[str, ...], sizes: Mapping[str, int], most: int, bytes_max: int | None, pinned: set[str]
) -> list[Verdict]:
    """Of a plain row of things: the newest always, the pinned always, then the newest as far as both bounds allow."""
    never = pinned | set(paths[-1:])
    room = _Room(bytes_max, sum(sizes.get(path, 0) for path in paths if path in never))
    verdicts: list[Verdict] = []
    for rank, path in enumerate(reversed(paths)):
        if path in pinned:
            stays, why = True, "pinned"
        elif path in never:
            stays, why = True, "the newest"
        elif rank >= most:
            stays, why = False, f"beyond the newest {most}"
        elif room.take(sizes.get(path, 0)):
            stays, why = True, f"among the newest {most}{room.within}"
        else:
            stays, why = False, room.beyond
        name = posixpath.basename(path)
        verdicts.append(Verdict(kind, name, path, sizes.get(path, 0), stays, why, path in pinned))
    return verdicts[::-1]
