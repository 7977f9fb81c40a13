"""What the story must come to, and what must hold on the way there, asked of the disk and of what was announced."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import msgspec

from actors.checkpointer.head import GENERATIONS, TRAINER_STATE, Head, decode_state
from messages import BatchFiled, GenerationCommitted, NightCommitted, Receipt, Report
from runtime import durable
from runtime.simulation import SimDisk
from tools.exhaustion.forking_disk import survivors
from tools.exhaustion.scenario import Broken
from tools.exhaustion.store_protocols import head_of
from tools.simulated_house.engine import ADAPTER, WEIGHTS, Weights

GOOD = b"".join(json.dumps({"text": f"line {number}"}).encode() + b"\n" for number in range(4))
BAD = b'{"txt": "this is no example"}\n'
FILES = {"good.jsonl": ("trained", GOOD), "bad.jsonl": ("rejected", BAD)}


@dataclass
class Announced:
    """What the house has told: from then on it must be so, whatever happens."""

    generation: int = 0
    nights: tuple[str, ...] = ()
    filed: dict[str, str] = field(default_factory=dict)

    def copy(self) -> Announced:
        """As it stands now."""
        return Announced(self.generation, self.nights, dict(self.filed))

    @property
    def key(self) -> tuple[object, ...]:
        """What tells one from another."""
        return self.generation, self.nights, tuple(sorted(self.filed.items()))

    def hear(self, message: object) -> None:
        """A message reached somebody."""
        match message:
            case GenerationCommitted():
                self.generation = max(self.generation, message.generation)
            case NightCommitted():
                self.generation = max(self.generation, message.generation)
                if message.night not in self.nights:
                    self.nights = (*self.nights, message.night)
            case BatchFiled():
                self.filed[message.name] = message.folder


def nights_of(disk: SimDisk) -> tuple[str, ...]:
    head = head_found(disk)
    return head.ledger if head is not None else ()


def head_found(disk: SimDisk) -> Head | None:
    try:
        return head_of(disk)
    except msgspec.MsgspecError as error:
        raise Broken(f"HEAD cannot be read: {error}") from error


def where(disk: SimDisk) -> str:
    tree = disk.tree()
    return ", ".join(path for path in tree if path.endswith(".jsonl") and not path.startswith("status/"))


def hold_promises(disk: SimDisk, announced: Announced) -> None:
    """At any moment, after any fault, before anybody has tidied up.

    Raises:
        Broken: HEAD is not sound, what was announced is not there, or a file is not in exactly one place.
    """
    head = head_found(disk)
    generation = head.generation if head is not None else 0
    if generation < announced.generation:
        raise Broken(f"generation {announced.generation} was announced, and {generation} is in force")
    nights = head.ledger if head is not None else ()
    if any(night not in nights for night in announced.nights):
        raise Broken(f"the nights {announced.nights} were announced, and there are {nights}")
    tree = disk.tree()
    for name, (_, data) in FILES.items():
        places = [path for path, found in tree.items() if found == data and path.endswith(".jsonl")]
        if len(places) != 1:
            raise Broken(f"{name} is in {len(places)} places: {', '.join(places) or 'it is lost'}")
        folder = announced.filed.get(name)
        if folder is not None and not places[0].startswith(f"{folder}/"):
            raise Broken(f"{name} was announced in {folder}/ and lies at {places[0]}")


@dataclass(frozen=True)
class Told:
    """The story's end, without what a fault may change: times, counts of tries, numbers that were skipped."""

    weights: Weights
    global_step: int
    adapter: tuple[str, int]
    deltas: tuple[Weights, ...]
    model: bytes
    papers: tuple[tuple[object, ...], ...]


def told(disk: SimDisk) -> Told:
    """What the story came to; of a disk that has just lost power after an orderly stop.

    Raises:
        Broken: it did not come to its end, or something is left over.
    """
    head = head_found(disk)
    if head is None or len(head.ledger) != 1:
        raise Broken(f"the nights at the end are {head.ledger if head else 'none'}, and there was to be one")
    path = head.generation_path
    state = decode_state(disk.read(f"{path}/{TRAINER_STATE}"), TRAINER_STATE)
    if state.cursor is not None:
        raise Broken(f"batch {state.cursor.batch} is still open")
    _nothing_left(disk, head)
    return Told(
        weights=_weights(disk, path),
        global_step=state.global_step,
        adapter=(state.adapter_id, state.adapter_step),
        deltas=tuple(_weights(disk, delta.path) for delta in head.deltas_in_force()),
        model=disk.read(f"{head.model_path}/{WEIGHTS}"),
        papers=tuple(_paper(disk, name, folder) for name, (folder, _) in sorted(FILES.items())),
    )


def _weights(disk: SimDisk, folder: str) -> Weights:
    return msgspec.json.decode(disk.read(f"{folder}/{ADAPTER}"), type=Weights)


def _paper(disk: SimDisk, name: str, folder: str) -> tuple[object, ...]:
    if disk.stat(f"{folder}/{name}") is None:
        raise Broken(f"{name} did not end in {folder}/: {where(disk)}")
    if folder == "trained":
        receipt = msgspec.json.decode(disk.read(f"{folder}/{name}.receipt.json"), type=Receipt)
        steps = (receipt.steps, receipt.first_global_step, receipt.last_global_step, receipt.tokens_trained)
        return (name, receipt.name, receipt.digest, receipt.examples, receipt.epochs, *steps, receipt.adapter_id)
    report = msgspec.json.decode(disk.read(f"{folder}/{name}.report.json"), type=Report)
    return (name, report.name, report.trouble.code, report.error_count, report.steps_kept)


def _nothing_left(disk: SimDisk, head: Head) -> None:
    """Each thing on the disk is there for a reason."""
    reached = {kept.path for kept in head.kept} | {delta.path for delta in head.deltas} | {head.model_path}
    places = {f"{folder}/{name}" for name, (folder, _) in FILES.items()}
    papers = {f"{place}.{'receipt' if place.startswith('trained') else 'report'}.json" for place in places}
    for path in disk.tree():
        folder, _, name = path.rpartition("/")
        below = folder in (GENERATIONS, "state/deltas", "consolidated_models")
        if below and path not in reached and not durable.is_leftover(name):
            raise Broken(f"{path} is reached by nothing")
        if folder in ("trained", "rejected", "failed", "inbox") and path not in places | papers:
            raise Broken(f"{path} does not belong there")
        if folder == "state/batches" and name != "LAST" and not durable.is_leftover(name):
            raise Broken(f"{path} is still claimed")
    page = json.loads(disk.read("status/training_status.json"))
    if page["state"] != "stopped" or page["counts"] != {"trained": 1, "rejected": 1, "failed": 0}:
        raise Broken(f"the daemon has stopped, and status says {page['state']} and {page['counts']}")
    if disk.readlink("current_model") != head.generation_path:
        raise Broken("current_model does not point at what is in force")


def nothing_hidden(disk: SimDisk) -> None:
    """After an orderly stop no protocol's leftover is seen; a power cut may still bring back one that was deleted."""
    for path in disk.tree():
        if durable.is_leftover(path.rpartition("/")[2]):
            raise Broken(f"{path} was left behind")


def after_the_stop(disk: SimDisk) -> SimDisk:
    """An orderly stop leaves nothing to a power cut: the disk without what was not synced."""
    return next(found for word, found in survivors(disk, 1) if word == "lose_all")
