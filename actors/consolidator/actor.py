"""The Consolidator: decides when a night is owed, has the merge made and proven, and sees it committed.

A night is owed when the configured local time has passed since the adapter's first step and that local date has had no
night yet; so it runs once for each date on which there is something to fold, at the next idle moment if the hour was
missed. Until the commit, yesterday is in force; whatever goes wrong before it costs only the try.
It is the one writer of ``consolidated_models/``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection
from datetime import datetime, time, timedelta
from typing import Annotated

from msgspec import Meta

from actors.consolidator.merge_problem import HELD_OUT_WORSE
from actors.consolidator.merger import MergeDone, Merger, MergeRefused, MergeRequest
from actors.consolidator.model_care import CareSettings, ModelCare
from messages import (
    AdapterBegun,
    BeginAdapter,
    CommitNight,
    ConsolidateNow,
    DamageHealed,
    GenerationCommitted,
    HeldOutLoss,
    InboxSurveyed,
    LearningState,
    NightClosed,
    NightCommitted,
    NightFinished,
    NightRefused,
    NightStarted,
    NightVerified,
    RetentionApplied,
    SpaceGranted,
    SpaceNeeded,
    StateInForce,
    StateWanted,
    SurveyWanted,
    TrainerYielded,
    TrainingIdle,
    YieldTrainer,
)
from runtime import AskFailed, durable, every, on

MODELS = "consolidated_models"
DELTAS = "state/deltas"
ASK_SECONDS = 120.0
LOAD_SECONDS = 1800.0


class ConsolidatorSettings(CareSettings, frozen=True, forbid_unknown_fields=True):
    """``[consolidator]``, with what ``CareSettings`` has.

    Attributes:
        at: local time of the night.
        nightly: off leaves nights to ``nightfold consolidate``.
        look_every_seconds: how often a missed or refused night is thought of again.
        timeout_seconds: of the merge and its proof; then the child process is killed and yesterday stays.
        retry_after_seconds: before a refused night is tried again.
        held_out_tolerance: nats per token by which the merged model may be worse than base and adapter on held-out
            text; what rounding explains, and no more.
    """

    at: time = time(3, 0)
    nightly: bool = True
    look_every_seconds: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    timeout_seconds: Annotated[float, Meta(ge=1)] = 1800.0
    retry_after_seconds: Annotated[float, Meta(ge=0)] = 72_000.0
    held_out_tolerance: Annotated[float, Meta(ge=0)] = 0.02


def last_due(now: datetime, at: time) -> datetime:
    """The newest moment not after ``now`` at which a night was due, as local wall time without its zone."""
    local = now.replace(tzinfo=None)
    today = datetime.combine(local.date(), at)
    return today if local >= today else today - timedelta(days=1)


def owed(now: datetime, at: time, learning_since: str | None, had_nights: Collection[str]) -> str:
    """The local date whose night is owed, or ``""``. ``had_nights`` are the dates that have had theirs.

    Wall time is compared with wall time, so an hour that daylight saving repeats or skips is one hour of that date.
    Dates are looked up, not compared: a clock that was once far ahead must not put off every night until then; for the
    same reason a first step that seems to lie days ahead counts as long past.
    """
    if learning_since is None:
        return ""
    due = last_due(now, at)
    learnt = datetime.fromisoformat(learning_since).replace(tzinfo=None)
    clock_was_far_ahead = learnt > now.replace(tzinfo=None) + timedelta(days=1)
    day = due.date().isoformat()
    return day if (learnt < due or clock_was_far_ahead) and day not in had_nights else ""


def worse(found: HeldOutLoss | None, tolerance: float) -> str:
    """Why the merged model may not take the place of base and adapter, in words with both figures, or ``""``.

    It is held against what is in force, base and adapter, and against nothing else: a day that made the model worse on
    older text is in force already, and refusing to fold it in would not take it back.
    """
    if found is None or found.merged <= found.adapter + tolerance:
        return ""
    return (
        f"on {found.examples} held-out example(s) the merged model's loss is {found.merged:.4f}, and that of base and "
        f"adapter {found.adapter:.4f}; it may be {tolerance:g} more"
    )


class Consolidator(ModelCare):
    """See the module. ``merger`` makes what merges and proves."""

    settings: ConsolidatorSettings

    def __init__(self, merger: Callable[[], Merger]) -> None:
        self._make_merger = merger

    async def on_start(self) -> None:
        self._merger = self._make_merger()
        self.begin_care()
        self._commanded = False
        self._inbox_waits = True  # until the first survey says otherwise
        self._refused_at: float | None = None
        self._force: StateInForce | None = None  # as last seen; void as soon as anything is committed
        # An earlier incarnation may have left the Trainer waiting for the end of its night.
        await self.send(NightClosed(night="", committed=False))
        await self.send(SurveyWanted())  # an inbox in which nothing changes would never be told of again
        await self._tidy()

    async def _tidy(self) -> None:
        """Remove what no commit reaches: partial merges, and models that no kept generation stands on."""
        force = await self.ask(StateWanted(only_look=True), timeout=ASK_SECONDS)
        needed = {*force.models_needed, force.model_path}
        try:
            await self.blocking(lambda: self._remove_unneeded(needed))
        except OSError:
            return  # a delete that fails is tried at the next start or night; nothing depends on it

    def _remove_unneeded(self, needed: set[str]) -> None:
        durable.ensure_directory(self.disk, MODELS)
        durable.sweep(self.disk, MODELS)
        for path in sorted(needed - {""}):
            durable.finish_replacing(self.disk, path)
        for name in self.disk.listdir(MODELS):
            path = f"{MODELS}/{name}"
            if path not in needed:
                durable.remove(self.disk, path)

    @on
    async def surveyed(self, inbox: InboxSurveyed) -> None:
        """A night waits for an empty inbox."""
        self._inbox_waits = bool(inbox.waiting_count or inbox.claimed or inbox.unready)
        if self._commanded:
            await self.consider()

    @on
    async def moved_on(self, _: GenerationCommitted | NightCommitted) -> None:
        """What is in force has changed."""
        self._force = None

    @on
    async def healed(self, _: DamageHealed) -> None:
        """What refused the last night may be mended."""
        self._refused_at = None

    @on
    async def let_go(self, retention: RetentionApplied) -> None:
        """A model that nothing stands on any more goes too: it is the largest thing there is.

        The news may be older than a night committed since, so it only says that there is something to look at.
        """
        try:
            there = await self.blocking(self._models_on_disk)
        except OSError:
            return  # at the next start, night or news
        if not set(there) <= set(retention.models_needed):
            await self._tidy()

    def _models_on_disk(self) -> tuple[str, ...]:
        names = self.disk.listdir(MODELS) if self.disk.stat(MODELS) is not None else []
        return tuple(f"{MODELS}/{name}" for name in names)

    @on
    async def command(self, _: ConsolidateNow) -> None:
        """A person wants a night: now, or as soon as training is idle."""
        self._commanded = True
        self._refused_at = None
        await self.consider()

    @on
    async def idle(self, _: TrainingIdle) -> None:
        """A night that waited may begin."""
        await self.consider()

    @every("look_every_seconds")
    async def consider(self) -> None:
        """Is a night wanted, and may it begin?"""
        if not self._commanded and (not self.settings.nightly or self._inbox_waits or self._lately_refused()):
            return
        # Asking has every file of the generation verified, so it is not done every minute for nothing.
        if self._force is None:
            self._force = await self.ask(StateWanted(only_look=True), timeout=ASK_SECONDS)
        force = self._force
        if force.damage:
            self._force = None
            return  # it is committed anew; that brings us back, or the clock
        had_nights = {delta.due_date for delta in force.ledger}
        due = owed(self.clock.now(), self.settings.at, force.state.learning_since, had_nights)
        if not due and not self._commanded:
            return
        if self._commanded and (force.generation == 0 or force.state.adapter_step == 0):
            self._commanded = False
            await self.send(NightRefused(night="", code="NF-MERGE-040", why="nothing was learnt since the last night"))
            return
        if self._inbox_waits:
            return
        night = self._name({delta.night for delta in force.ledger} | set(await self.blocking(self._names_on_disk)))
        answer = await self.ask(YieldTrainer(night=night), timeout=ASK_SECONDS)
        if not isinstance(answer, TrainerYielded):
            return  # busy: ``TrainingIdle`` or the clock brings us back
        self._commanded = False
        committed = False
        try:
            committed = await self._night(night, due, answer.state)
        finally:
            # What was committed is news that still waits in the mailbox, and the next tick overtakes it.
            self._force = None
            await self.send(NightClosed(night=night, committed=committed))
        await self._tidy()  # of a night that was refused, too: a merged model is large

    def _lately_refused(self) -> bool:
        if self._refused_at is None:
            return False
        return self.clock.monotonic() - self._refused_at < self.settings.retry_after_seconds

    def _names_on_disk(self) -> tuple[str, ...]:
        """Nights that left something on disk, in force or not."""
        given: list[str] = []
        for folder in (DELTAS, MODELS):
            given += self.disk.listdir(folder) if self.disk.stat(folder) is not None else []
        return tuple(given)

    def _name(self, taken: set[str]) -> str:
        """``20261123T030000``, from the local clock; a second later if a jumped clock has given that name before."""
        moment = self.clock.now().replace(tzinfo=None)
        while (name := moment.strftime("%Y%m%dT%H%M%S")) in taken:
            moment += timedelta(seconds=1)
        return name

    async def _night(self, night: str, due: str, yielded: LearningState) -> bool:
        """One try; ``True`` once it is committed."""
        began = self.clock.monotonic()
        # Read again under the yield: between the first look and it, a last commit may have come.
        # Every delta is read through, and those that are damaged are healed, if they can be.
        force = await self.ask(StateWanted(ledger=True, only_look=True), timeout=LOAD_SECONDS)
        if force.damage:
            await self._refuse(night, "NF-MERGE-042", force.damage)
            return False
        if force.ledger_damage:
            await self._refuse(night, "NF-MERGE-043", "; ".join(force.ledger_damage))
            return False
        if force.state.global_step != yielded.global_step or force.state.adapter_step == 0:
            await self._refuse(night, "NF-MERGE-040", "what is committed is not what the Trainer holds")
            return False
        space = await self.ask(SpaceNeeded(purpose="night"), timeout=ASK_SECONDS)
        if not isinstance(space, SpaceGranted):
            await self._refuse(night, "NF-DISK-001", f"{space.missing_bytes} bytes more must be free for the merge")
            return False
        await self.send(NightStarted(night=night, due_date=due, deltas=len(force.ledger) + 1))
        merged = await self._merge(night, force)
        if merged is None:
            return False
        return await self._commit(night, due, force, merged, began)

    async def _merge(self, night: str, force: StateInForce) -> tuple[str, str] | None:
        """Path and digest of the merged model, proven and durable under its name; ``None`` if there is none."""
        path = f"{MODELS}/{night}"
        staged = durable.hidden(path, "part")
        request = MergeRequest(
            deltas=(*(delta.path for delta in force.ledger), force.path),
            out=staged,
            last_base=force.model_path,
            nights=(*(delta.night for delta in force.ledger), night),
            base_fingerprint=force.state.base_fingerprint,
        )
        try:
            await self.blocking(lambda: self._clear(path, staged))
            outcome = await self._merger.merge(request)
            if isinstance(outcome, MergeDone):
                if why := worse(outcome.held_out, self.settings.held_out_tolerance):
                    await self.blocking(lambda: durable.remove(self.disk, staged))
                    await self._refuse(night, HELD_OUT_WORSE, why, outcome.held_out)
                    return None
                await self.blocking(lambda: durable.show_directory(self.disk, staged, path))
        except OSError as error:
            code = "NF-DISK-001" if error.errno == errno.ENOSPC else "NF-DISK-003"
            outcome = MergeRefused(code, str(error))
        if isinstance(outcome, MergeRefused):
            await self._refuse(night, outcome.code, outcome.why)
            return None
        await self.send(
            NightVerified(
                night=night,
                tensors=outcome.tensors,
                max_logit_difference=outcome.max_logit_difference,
                seconds=outcome.seconds,
                held_out=outcome.held_out,
            )
        )
        return path, outcome.digest

    def _clear(self, path: str, staged: str) -> None:
        durable.ensure_directory(self.disk, MODELS)
        durable.remove(self.disk, path)
        durable.remove(self.disk, staged)

    async def _commit(self, night: str, due: str, force: StateInForce, merged: tuple[str, str], began: float) -> bool:
        model_path, digest = merged
        # The Trainer still holds the adapter that ends here; once the fresh one is loaded, only the disk has it.
        if (now := await self.ask(StateWanted(only_look=True), timeout=ASK_SECONDS)).damage:
            await self._refuse(night, "NF-MERGE-042", now.damage)
            return False
        begun = await self.ask(
            BeginAdapter(night=night, model_path=model_path, model_digest=digest), timeout=LOAD_SECONDS
        )
        if not isinstance(begun, AdapterBegun):
            await self._refuse(night, "NF-MERGE-041", begun.why)
            return False
        try:
            answer = await self.ask(
                CommitNight(
                    night=night,
                    due_date=due,
                    delta_generation=force.generation,
                    model_path=model_path,
                    ticket=begun.ticket,
                    state=begun.state,
                    model_digest=digest,
                ),
                timeout=LOAD_SECONDS,  # the deltas are read once more
            )
        except AskFailed as error:
            # It may or may not have been committed: HEAD knows, and the Trainer loads whatever it says.
            await self._refuse(night, "NF-MERGE-042", str(error))
            return False
        if not isinstance(answer, NightCommitted):
            await self._refuse(night, "NF-MERGE-042", answer.why)
            return False
        self._refused_at = None
        seconds = round(self.clock.monotonic() - began, 2)
        await self.send(NightFinished(night=night, model_path=model_path, seconds=seconds))
        return True

    async def _refuse(self, night: str, code: str, why: str, held_out: HeldOutLoss | None = None) -> None:
        self._refused_at = self.clock.monotonic()
        await self.send(NightRefused(night=night, code=code, why=why, held_out=held_out))
