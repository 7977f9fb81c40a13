"""One universe: a home, the people around it, everything that goes wrong, from one seed.

It is a ``Trial`` of the house: the same actors as in the daemon, a learner whose weights can be checked, people who
drop files, and the promises of the house. The weather ceases after nine tenths of the time; then everything dropped
must get its outcome before the horizon.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from actors.checkpointer.actor import CheckpointerSettings
from actors.checkpointer.retention import Bounds
from actors.consolidator.merger import Merger
from actors.disk_guard.actor import DiskGuardSettings
from actors.inbox_watcher.actor import InboxWatcherSettings
from actors.trainer.engine import Engine
from messages import ConsolidateNow, InboxChanged, PauseTraining, PinSet, PinWanted, ResumeTraining
from runtime import AskFailed, Branch, Child, MailboxSpec, OperatorError, durable
from runtime.settings import Composed, compose
from runtime.simulation.coverage import CrashPoints, Orders, plain
from runtime.simulation.life import AT_REST, Life
from runtime.simulation.strikes import Strike
from runtime.simulation.trial import Trial, Violation
from runtime.simulation.weather import Climate
from runtime.trace_files import encode
from tools.house import SECTIONS, house, silent_parts
from tools.simulated_house.checkers import Evidence, house_checkers, read_head
from tools.simulated_house.checkers.files import TRANSIENT
from tools.simulated_house.checkers.reserve import Space
from tools.simulated_house.checkers.retention import RETRIED_SECONDS, Limits
from tools.simulated_house.checkers.rot import named_and_rotten
from tools.simulated_house.checkers.training import OneEngine, Witness
from tools.simulated_house.engine import PRISTINE, HashChainEngine
from tools.simulated_house.merger import SimMerger
from tools.simulated_house.people import DAY, HOUR, Deed, make_plan
from tools.simulated_house.rot import turn_a_bit

CALM_FROM = 0.9
HORIZON = 8 * HOUR
"""Virtual time after the plan's end in which everything dropped must have its outcome."""
QUIET_SECONDS = 700.0
"""Longer than any of the intervals below after which something that was put off is done."""
LIVES_A_DAY_MAX = 60
HELD_SECONDS = 1200.0
"""How long somebody holds training who holds it because of what was just announced."""
PIN_WITHIN_SECONDS = 300.0
AGAIN_SECONDS = 600.0
"""After so long a person tries again to put a file on a disk that was full."""
CLIMATE = Climate(
    cut_after=150.0,
    io=0.004,
    crash=0.0015,
    bit_rot=4.0,
    aims=(
        "state/HEAD",
        "state/generations",
        "state/batches",
        "state/deltas",
        "trained/",
        "rejected/",
        "failed/",
        "snapshots",
        "current_model",
        "consolidated_models",
    ),
    crash_aims=(
        "AdapterBegun",
        "BatchAccepted",
        "BatchClaimed",
        "BatchExhausted",
        "BatchFailed",
        "BatchFiled",
        "BatchOpened",
        "BatchRejected",
        "BatchTrained",
        "BatchesWanted",
        "BeginAdapter",
        "CommitGeneration",
        "CommitNight",
        "EngineLoaded",
        "GenerationCommitted",
        "InboxChanged",
        "InboxSurveyed",
        "NightClosed",
        "StateWanted",
        "StepsTaken",
        "TrainingIdle",
        "YieldTrainer",
    ),
    others={"engine": 0.01, "merge": 0.2, "rot": 0.02},
)
_FILES = re.compile(r"[^/]+\.jsonl")

# Slow timers: a quiet hour should cost few events, and events wake whoever is waited for.
CONFIG = """
[trainer]
slice_steps = 3
checkpoint_every_seconds = 20.0
retry_seconds = 5.0
look_again_seconds = 600.0
epochs = 2
[inbox_watcher]
scan_every_seconds = 600.0
quiet_seconds = 1.0
[checkpointer]
keep_generations = 3
keep_snapshots = 2
reserve_bytes = 16384
retry_deletes_every_seconds = 1800.0
scrub_every_seconds = 60.0
scrub_round_every_seconds = 7200.0
[consolidator]
look_every_seconds = 900.0
timeout_seconds = 3600.0
retry_after_seconds = 600.0
scrub_every_seconds = 3600.0
scrub_round_every_seconds = 7200.0
[disk_guard]
free_bytes_min = 4096
measure_every_seconds = 3600.0
[status_reporter]
write_every_seconds = 300.0
heartbeat_every_seconds = 1800.0
trace_on_disk = false
"""


BOUNDED_SHARE = 1 / 3
BYTES_MAX = {
    "generations_bytes_max": (0, 1, 6000, 9000),
    "snapshots_bytes_max": (0, 1, 5000),
    "nights_bytes_max": (0, 1, 80),
    "set_aside_bytes_max": (0, 1),
}
"""What a simulated home may be bounded to; 0 is no bound. A generation has about 2.5 kB, a merged model 35 bytes."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one seed. ``violation`` is empty when every promise held; ``promise`` names the broken one."""

    seed: int
    days: float
    violation: str
    trace: str
    lives: int
    faults: dict[str, int]
    counts: dict[str, int]
    promise: str = ""
    strikes: tuple[Strike, ...] = ()
    deeds: tuple[int, ...] = ()
    crash_points: CrashPoints = msgspec.field(default_factory=CrashPoints)
    orders: Orders = msgspec.field(default_factory=Orders)


class Universe:
    """Build with a seed, then ``run``.

    Args:
        seed: decides everything.
        days: how long people come, and for nine tenths of it, how long there is weather.
        faults: ``True`` for the seed's own weather, ``False`` for none, or exactly these.
        without: groups of people's deeds that are left undone.
        extra: more actors in the house: a plug-in that is to live through all this.
    """

    def __init__(
        self,
        seed: int,
        days: float = 1.0,
        *,
        faults: bool | Sequence[Strike] = True,
        without: tuple[int, ...] = (),
        extra: tuple[Child, ...] = (),
    ) -> None:
        self.seed = seed
        self.days = days
        self._extra = extra
        plan = make_plan(seed, days)
        self._groups = tuple(group for group in plan.groups if group not in without)
        self._evidence = Evidence(plan.without(without))
        self._config = _config(seed)
        limits = _limits(self._config)
        given: Sequence[Strike] | None = None if faults is True else () if faults is False else faults
        self._trial = Trial(
            seed,
            self._tree,
            self._live_plan,
            seconds=CALM_FROM * days * DAY,
            horizon_seconds=(1 - CALM_FROM) * days * DAY + HORIZON + HOUR,
            quiet_seconds=QUIET_SECONDS,
            climate=CLIMATE,
            faults=given,
            checkers=house_checkers(self._evidence, limits, _space(self._config)),
            commit_path="state/HEAD",
            between=self._between,
            excuse=self._excused,
            spared=("witness",),
            place=place,
            lives_max=LIVES_A_DAY_MAX * math.ceil(days),
            rot=lambda how, seed: turn_a_bit(self._trial, self._evidence, limits.kept, how, seed),
            record=lambda records: encode(records),  # noqa: PLW0108 - looked up here when called: a test listens in
        )
        for folder in ("model", "inbox"):
            durable.ensure_directory(self._trial.disk, folder)
            self._trial.disk.fsync_dir(folder)
        self._trial.disk.person_put(PRISTINE, b"pristine")
        self._trial.disk.person_put("nightfold.toml", b"")

    def run(self) -> Outcome:
        """Live until the plan is done and everything is checked."""
        found = self._trial.run()
        return Outcome(
            seed=self.seed,
            days=self.days,
            violation=found.violation,
            trace=found.trace,
            lives=found.lives,
            faults=dict(sorted(Counter(map(kind_of, found.strikes)).items())),
            counts=dict(self._evidence.counts),
            promise=found.promise,
            strikes=found.strikes,
            deeds=self._groups,
            crash_points=found.crash_points,
            orders=found.orders,
        )

    # The house.

    def _tree(self, life: Life) -> Branch:
        self._rot(life)
        chance = life.random("engine")
        engines = OneEngine(self._evidence, lambda: life.seconds, life.violate)

        def engine() -> Engine:
            return HashChainEngine(life.disk, chance, lambda: life.unlucky("engine"), engines)

        def merger() -> Merger:
            return SimMerger(life.disk, life.workers, chance, lambda: life.unlucky("merge"))

        self._evidence.in_training = ""
        self._evidence.weights = None
        self._evidence.paused_at = None
        witness = Child(
            "witness",
            Witness,
            make=lambda: Witness(self._evidence, life.disk, lambda: life.seconds, life.violate),
            mailbox=MailboxSpec(100_000),
        )
        # The true pid would give the status page another length, and so the simulated disk another free space.
        parts = silent_parts(engine, merger, pid=life.number)
        return house(self._config, parts, extra=(witness, *self._extra))

    def _excused(self, error: BaseException) -> bool:
        """A load that fails again and again ends the daemon; so often must the engine really have failed."""
        transient = isinstance(error, OperatorError) and error.code in TRANSIENT
        return transient and self._trial.struck_lately(AGAIN_SECONDS) >= 3

    # The people.

    async def _live_plan(self, life: Life) -> bool:
        """Do what is due, then wait until everything has its outcome."""
        notes = self._evidence
        await life.sleep(1.0)
        if notes.paused:
            notes.paused_at = life.seconds
            await life.system.send(PauseTraining())
        evening = self.days * DAY
        while notes.deeds or (notes.awaited and life.seconds < evening):
            due = notes.deeds[0].at if notes.deeds else evening
            if due > life.seconds:
                await self._wait(due - life.seconds, life)
                continue  # an announcement may have brought another deed forward
            deed = notes.deeds.pop(0)
            if deed.after:
                notes.awaited.append(deed)
            elif deed.act == "restart":
                return False
            else:
                await self._do(deed, life)
        notes.awaited.clear()  # nobody is there any more: what were done later would end the last life before its time
        await life.sleep_until(evening)
        give_up_at = life.seconds + HORIZON
        while (rotten := named_and_rotten(life.disk, notes)) or not (
            self._all_filed(life) and all(cell.state in AT_REST for cell in life.system.cells.values())
        ):
            if life.seconds > give_up_at:
                names = ", ".join(life.disk.listdir("inbox") + life.disk.listdir("state/batches"))
                if rotten:
                    break  # a checker says so
                why = f"within {HORIZON / HOUR:.0f} h of calm these got no outcome: {names}"
                self._trial.note_violation("everything dropped gets its outcome", why)
                raise Violation(why)
            await life.sleep(60.0)
        return True

    async def _wait(self, seconds: float, life: Life) -> None:
        """Until then, or until something is announced that somebody waited for."""
        heard = asyncio.Event()

        def announced(kind: str) -> None:
            notes = self._evidence
            due = [deed for deed in notes.awaited if deed.after == kind]
            if due:
                notes.awaited = [deed for deed in notes.awaited if deed.after != kind]
                now = [msgspec.structs.replace(deed, at=life.seconds + deed.seconds, after="") for deed in due]
                notes.deeds = sorted([*now, *notes.deeds], key=lambda one: one.at)
                heard.set()

        self._evidence.announced = announced
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await heard.wait()

    def _all_filed(self, life: Life) -> bool:
        waiting = [name for name in life.disk.listdir("inbox") if name.endswith(".jsonl")]
        return not waiting and not [name for name in life.disk.listdir("state/batches") if name.isdigit()]

    def _rot(self, life: Life) -> None:
        """Time passes, and now and then a bit of a merged model turns. Asked with each deed, and before each start."""
        files = [path for path, data in life.disk.below("consolidated_models") if data and "/." not in path]
        if files and "rot" in CLIMATE.others:
            chance = life.random("rot")
            path = chance.choice(files)
            if life.unlucky("rot", path):
                life.disk.corrupt(path, chance)

    async def _do(self, deed: Deed, life: Life) -> None:
        self._rot(life)
        system, notes = life.system, self._evidence
        match deed.act:
            case "drop" | "replace" | "upload_begin" | "upload_more":
                try:
                    self._put(deed, life)
                except OSError:
                    self._try_again(deed, life)
                    return
                if deed.act in ("drop", "replace"):
                    await system.send(InboxChanged())
            case "upload_end" if deed.name in notes.uploading:
                life.disk.end_person_write(f"inbox/{deed.name}")
                notes.arrived[notes.marks[notes.uploading.pop(deed.name)]] += 1
                await system.send(InboxChanged())
            case "take_back":
                self._take_back(deed.name, life)
            case "pause":
                notes.paused, notes.paused_at = True, life.seconds
                await system.send(PauseTraining())
            case "hold":
                notes.paused, notes.paused_at = True, life.seconds
                notes.deeds.append(Deed(life.seconds + HELD_SECONDS, "resume"))
                notes.deeds.sort(key=lambda one: one.at)
                await system.send(PauseTraining())
            case "resume":
                notes.paused, notes.paused_at = False, None
                await system.send(ResumeTraining())
            case "consolidate":
                await system.send(ConsolidateNow())
            case "pin" | "unpin":
                await self._pin(deed, life)
            case "jump":
                notes.jumped = True
                life.jump_clock(deed.seconds)

    async def _pin(self, deed: Deed, life: Life) -> None:
        """The oldest of its kind that HEAD keeps, or what was pinned first. What got no answer, nobody relies on."""
        notes = self._evidence
        if deed.act == "unpin":
            wanted = notes.pinned.pop(0) if notes.pinned else None
            notes.let_go_at = self._trial.now
        else:
            wanted = self._to_be_pinned(deed.name, life)
        if wanted is None:
            return
        kind, name = wanted
        try:
            question = PinWanted(target=name, pinned=deed.act == "pin")
            answer = await life.system.ask(question, timeout=PIN_WITHIN_SECONDS)
        except AskFailed:
            return
        if deed.act == "unpin":
            notes.let_go_at = self._trial.now
        elif isinstance(answer, PinSet) and (kind, name) not in notes.pinned:
            notes.pinned.append((kind, name))
            notes.counts["pins"] += 1

    def _to_be_pinned(self, kind: str, life: Life) -> tuple[str, str] | None:
        head = read_head(life.disk)
        names: list[str] = []
        if head is not None:
            match kind:
                case "generation":
                    names = [str(kept.generation) for kept in head.kept if not kept.pinned]
                case "night":
                    names = [night.night for night in head.nights if not night.pinned]
                case "snapshot" if life.disk.stat("snapshots") is not None:
                    names = [name for name in life.disk.listdir("snapshots") if not durable.is_leftover(name)]
        return (kind, names[0]) if names else None

    def _put(self, deed: Deed, life: Life) -> None:
        disk, notes, path = life.disk, self._evidence, f"inbox/{deed.name}"
        if deed.act == "upload_more":
            if deed.name in notes.uploading:
                disk.person_write(path, deed.data)
                notes.uploading[deed.name] += deed.data
            return
        if deed.act == "upload_begin":
            disk.begin_person_write(path, anew=True)
            notes.uploading[deed.name] = b""
            return
        if disk.free_bytes() < len(deed.data):
            raise OSError("no room for this file")
        mark = notes.marks[deed.data]
        if deed.act == "replace":
            self._take_back(deed.name, life)
        if disk.stat(path) is not None:  # another file of this name, or one that is being uploaded
            path = f"inbox/{mark}-{round(deed.at)}.jsonl"
        disk.person_put(path, deed.data)
        notes.arrived[mark] += 1

    def _take_back(self, name: str, life: Life) -> None:
        """A person removes a file that is whole and not claimed yet."""
        path, notes = f"inbox/{name}", self._evidence
        if name not in notes.uploading and life.disk.stat(path) is not None:
            notes.arrived[notes.marks[life.disk.read(path)]] -= 1
            life.disk.person_remove(path)

    def _try_again(self, deed: Deed, life: Life) -> None:
        """The disk is full: this deed, and what belongs to it, a little later."""
        later = life.seconds + AGAIN_SECONDS - deed.at
        rest = [one for one in self._evidence.deeds if one.group == deed.group]
        others = [one for one in self._evidence.deeds if one.group != deed.group]
        moved = [msgspec.structs.replace(one, at=one.at + later) for one in (deed, *rest)]
        self._evidence.deeds = sorted([*others, *moved], key=lambda one: one.at)

    def _between(self, ending: str) -> None:
        """What becomes of uploads while the daemon is down, and of what it had still to do."""
        disk, notes = self._trial.disk, self._evidence
        if self._trial.elapsed - notes.let_go_at < 2 * RETRIED_SECONDS:
            notes.let_go_at = self._trial.elapsed  # while it is down retention does not come
        for name in sorted(notes.uploading):
            if ending != "cut":
                disk.begin_person_write(f"inbox/{name}")  # whoever sends it does not notice
                continue
            # The upload died with the machine; its sender begins again, and has the whole file this time.
            disk.person_remove(f"inbox/{name}")
            rest = [deed for deed in notes.deeds if deed.name == name and deed.act == "upload_more"]
            whole = notes.uploading.pop(name) + b"".join(deed.data for deed in rest)
            notes.deeds = [deed for deed in notes.deeds if deed.name != name or not deed.act.startswith("upload")]
            notes.deeds.insert(0, Deed(self._trial.elapsed, "drop", name, whole))


def kind_of(strike: Strike) -> str:
    """How a strike is counted."""
    match strike.kind:
        case "cut":
            return f"power cut, {strike.how.partition('.')[0]}"
        case "crash":
            return f"{strike.where.partition(' ')[0]} crashes"
    return strike.kind


_HIDDEN = {
    durable.hidden(path, "tmp"): f"{path}.tmp"
    for path in (
        "state/HEAD",
        "state/batches/LAST",
        "status/training_status.json",
        "status/actors.json",
        "current_model",
    )
}


@lru_cache(maxsize=1 << 14)
def place(path: str) -> str:
    """A path in a home without what people and the calendar put into it."""
    return _HIDDEN.get(path) or plain(_FILES.sub("FILE.jsonl", path))


def _limits(config: Composed) -> Limits:
    keeps = config.take("checkpointer", CheckpointerSettings)
    claims = config.take("inbox_watcher", InboxWatcherSettings).claims_max
    bounds = Bounds(
        keeps.keep_generations,
        keeps.keep_snapshots,
        keeps.keep_nights,
        keeps.generations_bytes_max,
        keeps.snapshots_bytes_max,
        keeps.nights_bytes_max,
        keeps.set_aside_bytes_max,
    )
    return Limits(bounds, claims)


def _space(config: Composed) -> Space:
    marks = config.take("disk_guard", DiskGuardSettings)
    reserve_bytes = config.take("checkpointer", CheckpointerSettings).reserve_bytes
    return Space(reserve_bytes, marks.free_bytes_min, marks.recovered)


def _config(seed: int) -> Composed:
    """In one home of three, bytes are bounded too: so that they bind now and then, or so that hardly anything fits."""
    chance = random.Random(f"bounds/{seed}")  # noqa: S311 - chance, not secrets
    bounded = "[checkpointer]\n"
    if chance.random() < BOUNDED_SHARE:
        for name, sizes in BYTES_MAX.items():
            most = chance.choice(sizes)
            bounded += f"{name} = {most}\n" if most else ""
    return compose(CONFIG.replace("[checkpointer]\n", bounded), SECTIONS, file="simulation")
