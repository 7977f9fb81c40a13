"""The Trainer: takes accepted batches one by one, in order of their numbers, and turns them into committed learning.

It is a state machine around one device thread. Each handler notes what happened and ends in ``_advance``, the only
place that decides what comes next; the thread's results arrive as ordinary messages.

Invariants:
    1. At most one batch is in training, and a batch begun is ended (or dropped) before another begins.
    2. A batch is announced trained or failed only after the generation that says so is committed.
    3. After any doubt about the engine's state it is loaded anew from what is in force.
Knows nothing of files' places, of HEAD, or of how a merge is made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from actors.trainer.engine import Engine
from actors.trainer.jobs import DeviceJobs
from actors.trainer.settings import TrainerSettings
from messages import (
    ActorStarted,
    AdapterBegun,
    AdapterNotBegun,
    BatchAccepted,
    BatchesWanted,
    BatchExhausted,
    BatchFailed,
    BatchFiled,
    BatchOpened,
    BatchRejected,
    BatchStarted,
    BatchTrained,
    BeginAdapter,
    CommitFailed,
    CommitFinally,
    CommitGeneration,
    DiskRecovered,
    DiskRunningLow,
    EngineLoaded,
    EngineStumbled,
    GenerationCommitted,
    GenerationDamaged,
    HealModel,
    LearningState,
    MessageDeadLettered,
    MicroBatchHalved,
    ModelGivenUp,
    ModelHealed,
    ModelRefused,
    NightClosed,
    PauseTraining,
    Report,
    ResumeTraining,
    SpaceGranted,
    SpaceNeeded,
    StateWanted,
    StepSkipped,
    StepsTaken,
    TrainerBusy,
    TrainerReady,
    TrainerYielded,
    TrainingIdle,
    TrainingPaused,
    TrainingProgress,
    TrainingResumed,
    TrainingWaits,
    Trouble,
    TryAgain,
    YieldTrainer,
)
from runtime import Actor, OperatorError, every, on
from runtime.errors import EXIT_CONFIG, EXIT_GAVE_UP

ASK_SECONDS = 120.0
CHECKPOINTER = "checkpointer"
"""Who commits. Only the name: actors do not know each other."""


@dataclass(frozen=True)
class _Commit:
    """A commit asked for. ``changes`` counts what was learnt up to it; ``outcome`` is announced when it is done."""

    request: CommitGeneration
    changes: int
    outcome: BatchTrained | BatchFailed | None


class Trainer(Actor):
    """See the module. ``engine`` makes what computes; a fresh one for each incarnation."""

    settings: TrainerSettings
    sends = (BatchTrained, BatchFailed, CommitGeneration)

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._make_engine = engine

    async def on_start(self) -> None:
        self._jobs = DeviceJobs(
            self._make_engine(),
            self.settings,
            self.cloakroom,
            self.disk,
            seconds=self.clock.monotonic,
            now=self.clock.now,
            interrupted=self.device.interrupted,
        )
        self._state = LearningState()
        self._loaded = False
        self._on_device = False
        self._backing_off = False
        self._model_awaited: ModelRefused | None = None
        self._queue: dict[str, BatchAccepted] = {}
        self._current: BatchAccepted | None = None
        self._opened = False
        self._filed: set[str] = set()
        self._commits: deque[_Commit] = deque()
        self._commit_refused = False
        self._changes = 0
        self._committed_changes = 0
        self._steps_since_commit = 0
        self._anew = False
        self._commit_asked_at = self.clock.monotonic()
        self._failing: BatchFailed | None = None
        self._attempts: dict[str, int] = {}
        self._load_attempts = 0
        self._new_home = False
        self._paused = False
        self._low = False
        self._told = ""
        self._night = ""
        self._begun: LearningState | None = None
        await self.send(BatchesWanted())
        await self._advance()

    async def on_stop(self) -> None:
        """Finish the step in hand and commit what was learnt since the last commit."""
        self.device.interrupt()
        await self.device.join()
        state = self._jobs.done_state
        if self._loaded and state is not None and not self._night:
            await self._commit_finally(state)
        await self.device_call(self._jobs.unload)

    async def _commit_finally(self, state: LearningState) -> None:
        unchanged = self._changes == self._committed_changes and self._as_filed(state) == self._state
        if unchanged and not self._commits:
            return
        # The newest snapshot may already lie in the cloakroom, but which one that is hangs on a message that was not
        # handled; one more snapshot of the same state costs little and cannot be the wrong one.
        taken = await self.device_call(lambda: self._jobs.snapshot(state))
        if isinstance(taken, StepsTaken):
            await self.ask(
                CommitFinally(ticket=taken.ticket, state=self._as_filed(state), why="stop"), timeout=ASK_SECONDS
            )

    # What comes next.

    async def _advance(self) -> None:
        """Start the next thing, if nothing is being done and something may be."""
        if self._on_device or self._night or self._backing_off or self._model_awaited is not None:
            return
        if not self._loaded:
            await self._load()
        elif self._failing is not None:
            self._start(lambda: self._jobs.snapshot(self._state))
        elif self._commit_refused or any(commit.outcome for commit in self._commits):
            return  # the disk must take this one before anything else is learnt
        elif self._paused:
            await self._hold()
        elif self._low and self._current is not None:
            await self._wait_for_room(self._current)
        elif self._current is not None:
            self._go_on(self._current)
        else:
            await self._begin_next()

    async def _load(self) -> None:
        # Snapshots not yet committed are of an engine that is given up, and some of them perhaps of an incarnation that
        # crashed, or of a night that was refused; the Checkpointer has dealt with all that were sent before it answers.
        force = await self.ask(StateWanted(), timeout=ASK_SECONDS)
        self.cloakroom.clear()
        self._commits.clear()
        self._commit_refused = False
        self._anew = False
        self._changes = self._committed_changes
        self._new_home = force.generation == 0
        if self._new_home:
            self._changes += 1  # a new home: its first adapter is to be committed
        self._start(lambda: self._jobs.load(force))

    async def _hold(self) -> None:
        """Paused: commit what is not committed, then say so, once."""
        if self._commits:
            return
        if self._changes != self._committed_changes:
            self._start(lambda: self._jobs.snapshot(self._state))
        elif self._told != "paused":
            self._told = "paused"
            await self.send(TrainingPaused(global_step=self._state.global_step))

    async def _wait_for_room(self, current: BatchAccepted) -> None:
        """The disk ran low: commit what is learnt, and learn on only once there is room for a whole batch."""
        if self._commits:
            return
        if self._changes != self._committed_changes:
            self._start(lambda: self._jobs.snapshot(self._state))
        elif await self._has_room(current.name):
            self._low = False
            if self._told:
                self._told = ""
                await self.send(TrainingResumed())
            self._go_on(current)

    async def _has_room(self, name: str) -> bool:
        answer = await self.ask(SpaceNeeded(purpose="batch"), timeout=ASK_SECONDS)
        if isinstance(answer, SpaceGranted):
            return True
        await self._wait(name, "free disk space", answer.missing_bytes)
        return False

    def _go_on(self, accepted: BatchAccepted) -> None:
        if not self._opened:
            state = self._state
            self._start(lambda: self._jobs.open_batch(state, accepted))
            return
        state = self._state
        at_most, snapshot_after = self._until_checkpoint()
        self._start(lambda: self._jobs.slice(state, accepted, at_most=at_most, snapshot_after=snapshot_after))

    def _until_checkpoint(self) -> tuple[int | None, int | None]:
        """How many steps the next slice may take at most, and after how many of them a checkpoint is due, if any."""
        settings = self.settings
        at_most, due_after = settings.slice_steps, None
        if settings.checkpoint_every_steps is not None:
            due_after = max(1, settings.checkpoint_every_steps - self._steps_since_commit)
            at_most = due_after if at_most is None else min(at_most, due_after)
        if settings.checkpoint_every_seconds:
            waited = self.clock.monotonic() - self._commit_asked_at
            due_after = 0 if waited >= settings.checkpoint_every_seconds else due_after
        if self._anew:
            due_after = 0
        return at_most, None if self._commits else due_after

    async def _begin_next(self) -> None:
        accepted = await self._next_batch()
        if self._changes != self._committed_changes:
            if not self._commits:
                self._start(lambda: self._jobs.snapshot(self._state))
            return
        if accepted is None:
            if not self._queue and self._told != "idle" and self._state.cursor is None:
                self._told = "idle"
                await self.send(TrainingIdle(global_step=self._state.global_step))
            return
        if not await self._has_room(accepted.name):
            return
        self._told = ""
        self._current = self._queue.pop(accepted.batch)
        self._opened = False
        self._go_on(self._current)

    async def _next_batch(self) -> BatchAccepted | None:
        """The interrupted batch first, else the lowest number; of those whose file is still among the claimed.

        A file leaves ``state/batches/`` only when its outcome is durable, so one that is gone is dealt with, whatever a
        message that was sent before says.
        """
        cursor = self._state.cursor
        if cursor is not None:
            if not await self._is_there(cursor.path):
                self._drop_cursor()
                return await self._next_batch()
            # If it is not queued yet, it is on its way through the Validator, and nothing overtakes it.
            return self._queue.get(cursor.batch)
        # A batch may have been accepted before the load told that its outcome is committed; its file is still there.
        committed = {outcome.batch for outcome in self._state.unfiled}
        while self._queue:
            batch = self._queue[min(self._queue, key=int)]
            if batch.batch not in committed and await self._is_there(batch.path):
                return batch
            del self._queue[batch.batch]
        return None

    async def _is_there(self, path: str) -> bool:
        return await self.blocking(lambda: self.disk.stat(path) is not None)

    def _drop_cursor(self) -> None:
        self._state = replace(self._state, cursor=None)
        self._changes += 1

    async def _wait(self, name: str, why: str, missing_bytes: int = 0) -> None:
        told = f"{name} waits: {why}"
        if self._told != told:
            self._told = told
            await self.send(TrainingWaits(name=name, why=why, missing_bytes=missing_bytes))

    def _start(
        self,
        job: Callable[[], EngineLoaded | BatchOpened | StepsTaken | BatchExhausted | EngineStumbled | ModelRefused],
    ) -> None:
        self._on_device = True
        self.on_device(job)

    def _as_filed(self, state: LearningState) -> LearningState:
        """``state`` without the outcomes whose files are filed by now."""
        return replace(state, unfiled=tuple(one for one in state.unfiled if one.batch not in self._filed))

    # Batches come and go.

    @on
    async def accepted(self, batch: BatchAccepted) -> None:
        """Queue it; one that is committed already is announced again, one in hand is known."""
        known = next((one for one in self._state.unfiled if one.batch == batch.batch), None)
        if known is not None and batch.batch not in self._filed:
            if not any(commit.outcome == known for commit in self._commits):
                await self.send(known)
        elif self._current is None or self._current.batch != batch.batch:
            self._queue[batch.batch] = batch
        await self._advance()

    @on
    async def rejected(self, batch: BatchRejected) -> None:
        """An interrupted batch that is no longer fit (the rules changed) is dropped where it stood."""
        if self._state.cursor is not None and self._state.cursor.batch == batch.batch and self._current is None:
            self._drop_cursor()
            await self._advance()

    @on
    async def filed(self, batch: BatchFiled) -> None:
        """Its file is in its last place: the next commit need not remember it."""
        # To be known as long as a state may come that still names it: off the device, or as what is in force.
        if not self._loaded or any(one.batch == batch.batch for one in self._state.unfiled):
            self._filed.add(batch.batch)
        self._state = self._as_filed(self._state)

    # The thread reports.

    @on
    async def engine_loaded(self, loaded: EngineLoaded) -> None:
        """The engine holds what is in force."""
        self._on_device = False
        self._loaded = True
        self._load_attempts = 0
        self._state = self._as_filed(loaded.state)
        if self._failing is not None:
            self._failing = self._with_steps_kept(self._failing)
            self._state = replace(self._state, cursor=None, unfiled=(*self._state.unfiled, self._failing))
        for outcome in self._state.unfiled:
            if outcome != self._failing:
                await self.send(outcome)
        await self.send(
            TrainerReady(
                device=loaded.device,
                dtype=loaded.dtype,
                model=loaded.model,
                parameters=loaded.parameters,
                trainable=loaded.trainable,
                generation=loaded.generation,
                global_step=self._state.global_step,
                adapter_id=self._state.adapter_id,
                adapter_step=self._state.adapter_step,
                base=self._state.base,
            )
        )
        await self._advance()

    @on
    async def model_refused(self, refused: ModelRefused) -> None:
        """What is in force stands on a damaged model: whoever makes models heals it, or something else is in force."""
        self._on_device = False
        self._model_awaited = refused
        await self._wait(refused.path, f"a sound model ({refused.why})")
        await self.send(HealModel(path=refused.path, why=refused.why))

    @on
    async def model_settled(self, _: ModelHealed | ModelGivenUp) -> None:
        """Load again: the model that was refused, or what is in force instead."""
        if self._model_awaited is not None:
            self._model_awaited = None
            self._told = ""
            await self._advance()

    def _with_steps_kept(self, failing: BatchFailed) -> BatchFailed:
        """Say how much of the failed batch the generation in force holds."""
        cursor = self._state.cursor
        if cursor is None or cursor.batch != failing.batch:
            return failing
        kept = self._state.global_step - cursor.first_global_step
        return replace(failing, report=replace(failing.report, steps_kept=kept))

    @on
    async def batch_opened(self, opened: BatchOpened) -> None:
        """The plan stands; steps may begin."""
        self._on_device = False
        self._opened = True
        cursor = opened.cursor
        self._state = replace(self._state, cursor=cursor)
        await self.send(
            BatchStarted(
                batch=cursor.batch,
                name=cursor.name,
                step=cursor.step,
                steps=cursor.steps,
                examples=cursor.examples,
                tokens=opened.tokens,
            )
        )
        await self._advance()

    @on
    async def steps_taken(self, taken: StepsTaken) -> None:
        """A slice is done, with or without a snapshot."""
        self._on_device = False
        self._state = self._as_filed(taken.state)
        if taken.taken:
            self._changes += 1
            self._steps_since_commit += taken.taken
            await self._tell_progress(taken)
        if taken.ticket:
            outcome, self._failing = self._failing, None
            await self._commit(taken.ticket, self._why(taken, outcome), outcome)
        await self._advance()

    @on
    async def batch_exhausted(self, exhausted: BatchExhausted) -> None:
        """The batch is learnt; it counts once it is committed."""
        self._on_device = False
        self._changes += 1
        self._state = self._as_filed(exhausted.state)
        self._attempts.pop(exhausted.trained.batch, None)
        await self._commit(exhausted.ticket, "batch end", exhausted.trained)
        await self._advance()

    @on
    async def stumbled(self, trouble: EngineStumbled) -> None:
        """Load again and retry, or give this batch (or, without one, the start) up."""
        self._on_device = False
        loading = not self._loaded
        self._loaded = False
        self._opened = False
        batch = self._current
        if loading or batch is None:
            self._load_attempts += 1
            attempts = self._load_attempts
            if not trouble.transient or attempts >= self.settings.max_attempts:
                # What may pass by itself is tried again by whoever keeps the daemon running, with a pause between.
                code = EXIT_GAVE_UP if trouble.transient else EXIT_CONFIG
                raise OperatorError(trouble.code, trouble.why, hint=f"nightfold explain {trouble.code}", exit_code=code)
        else:
            attempts = self._attempts[batch.batch] = self._attempts.get(batch.batch, 0) + 1
            if not trouble.transient or attempts >= self.settings.max_attempts:
                self._give_up(batch, trouble, attempts)
                await self._advance()
                return
            # Its place is kept by the cursor in force; from the queue it is picked up again.
            self._queue[batch.batch] = batch
            self._current = None
        self._backing_off = True
        self.post_later(self.settings.retry_seconds * 2.0 ** (attempts - 1), TryAgain())

    def _give_up(self, batch: BatchAccepted, trouble: EngineStumbled, attempts: int) -> None:
        """The batch is set aside once the engine is back at the last good generation and that is committed."""
        kept = "the weights are those of the last checkpoint before the trouble"
        self._failing = BatchFailed(
            batch=batch.batch,
            name=batch.name,
            report=Report(
                batch=batch.batch,
                name=batch.name,
                trouble=Trouble(trouble.code, trouble.why, f"nightfold explain {trouble.code}"),
                when=self.clock.now().isoformat(timespec="seconds"),
                notes=(f"tried {attempts} time(s)", kept),
            ),
        )

    @on
    async def try_again(self, _: TryAgain) -> None:
        """The wait after a transient error is over."""
        self._backing_off = False
        await self._advance()

    async def _tell_progress(self, taken: StepsTaken) -> None:
        cursor = taken.state.cursor
        assert cursor is not None, "steps belong to a batch"
        if taken.skipped:
            await self.send(
                StepSkipped(batch=cursor.batch, global_step=taken.state.global_step, why="loss or gradient not finite")
            )
        if taken.micro_batch:
            await self.send(MicroBatchHalved(batch=cursor.batch, micro_batch=taken.micro_batch))
        per_step = cursor.seconds / cursor.step if cursor.step else 0.0
        await self.send(
            TrainingProgress(
                batch=cursor.batch,
                name=cursor.name,
                step=cursor.step,
                steps=cursor.steps,
                global_step=taken.state.global_step,
                adapter_step=taken.state.adapter_step,
                loss=taken.loss,
                learning_rate=taken.learning_rate,
                grad_norm=taken.grad_norm,
                tokens_per_second=round(taken.tokens / taken.seconds, 1) if taken.seconds else 0.0,
                eta_s=round(per_step * (cursor.steps - cursor.step), 1),
            )
        )

    def _why(self, taken: StepsTaken, outcome: BatchFailed | None) -> str:
        """What the commit is for, in words for people."""
        if outcome is not None:
            return "batch failed"
        if self._anew:
            return "in place of a damaged one"
        if self._paused:
            return "pause"
        if self._low and self._current is not None:
            return "disk low"
        if taken.taken:
            return "interval"
        return "first" if self._new_home else "batch dropped"

    # Commits.

    async def _commit(self, ticket: str, why: str, outcome: BatchTrained | BatchFailed | None) -> None:
        """Ask for a commit behind the next steps; one at a time is under way, the rest wait in order."""
        request = CommitGeneration(ticket=ticket, state=self._as_filed(self._state), why=why)
        self._commits.append(_Commit(request, self._changes, outcome))
        self._steps_since_commit = 0
        self._anew = False
        self._commit_asked_at = self.clock.monotonic()
        if len(self._commits) == 1:
            await self.send(request)

    @on
    async def committed(self, done: GenerationCommitted) -> None:
        """What the commit carried is safe: announce the batch it ended."""
        if not self._commits or self._commits[0].request.ticket != done.ticket:
            return
        commit = self._commits.popleft()
        self._commit_refused = False
        self._committed_changes = commit.changes
        self._attempts.clear()  # what went wrong before is behind a commit: patience begins anew
        named = (*commit.request.state.unfiled, *(self._jobs.done_state or self._state).unfiled)
        self._filed &= {outcome.batch for outcome in named}  # all others are in no state any more
        if commit.outcome is not None:
            self._current = None
            self._opened = False
            await self.send(commit.outcome)
        if self._commits:
            await self.send(self._commits[0].request)
        await self._advance()

    @on
    async def commit_failed(self, failed: CommitFailed) -> None:
        """Hold: what was learnt is in memory and the last commit on disk. The clock tries again."""
        if not self._commits or self._commits[0].request.ticket != failed.ticket:
            return
        if failed.code == "NF-STATE-005":
            # The snapshot went with an earlier incarnation: only what is in force can be trusted.
            self._loaded = self._opened = False
            if self._current is not None:
                self._queue[self._current.batch] = self._current
                self._current = None
            await self._advance()
            return
        await self._hold_for_commit(f"{failed.code}: {failed.why}")

    async def _hold_for_commit(self, why: str) -> None:
        self._commit_refused = True
        self.device.interrupt()
        cursor = self._state.cursor
        await self._wait(cursor.name if cursor else "training", f"a commit ({why})")

    @on
    async def letter_died(self, dead: MessageDeadLettered) -> None:
        """The Checkpointer crashed over a commit and again over its redelivery: as if the disk had refused.

        Asked again at once and often, a Checkpointer that crashes over every commit is found to keep failing.
        """
        if self._commits and (dead.actor, dead.message_type) == (CHECKPOINTER, CommitGeneration.__name__):
            await self._hold_for_commit("the Checkpointer crashed over it")

    @on
    async def damaged(self, _: GenerationDamaged) -> None:
        """What is in memory is as good as before: commit it at the next step boundary, like any other checkpoint."""
        if self._loaded:  # else what is loaded next is verified first
            self._anew = True
            self._changes += 1
            self.device.interrupt()
            await self._advance()

    @every("look_again_seconds")
    async def look_again(self) -> None:
        """Ask again for a commit that was refused or got lost, and for space that was missing."""
        overdue = self.clock.monotonic() - self._commit_asked_at > ASK_SECONDS
        if self._commits and (self._commit_refused or overdue):
            self._commit_asked_at = self.clock.monotonic()
            await self.send(self._commits[0].request)
        await self._advance()

    @on(control=True)
    async def disk_low(self, _: DiskRunningLow) -> None:
        """Hold at a good commit while there is room for one."""
        self._low = True
        self.device.interrupt()
        await self._advance()

    @on
    async def disk_recovered(self, _: DiskRecovered) -> None:
        """There is room again."""
        await self.look_again()

    # A person's wishes.

    @on(control=True)
    async def pause(self, _: PauseTraining) -> None:
        """Within one step: the flag is read between steps."""
        self._paused = True
        self.device.interrupt()
        await self._advance()

    @on
    async def began_anew(self, other: ActorStarted) -> None:
        """Whoever did has not heard that there is a pause, or that a model is waited for."""
        if other.incarnation > 1 and self._model_awaited is not None:
            await self.send(HealModel(path=self._model_awaited.path, why=self._model_awaited.why))
        if other.incarnation > 1 and self._paused:
            self._told = ""
            await self._advance()

    @on(control=True)
    async def resume(self, _: ResumeTraining) -> None:
        """Go on where it stood."""
        if self._paused:
            self._paused = False
            self._told = ""
            await self.send(TrainingResumed())
        await self._advance()

    # Nights.

    @on
    async def yield_to_night(self, wish: YieldTrainer) -> TrainerYielded | TrainerBusy:
        """Only an idle Trainer with everything committed makes way."""
        busy = (
            "the model is being loaded"
            if not self._loaded
            else "training is paused"
            if self._paused
            else "a batch is in training or waiting"
            if self._on_device or self._current or self._queue or self._state.cursor or self._failing
            else "a commit is under way"
            if self._commits or self._changes != self._committed_changes
            else f"night {self._night} is not closed"
            if self._night
            else ""
        )
        if busy:
            return TrainerBusy(why=busy)
        self._night = wish.night
        return TrainerYielded(state=self._state)

    @on
    async def begin_adapter(self, wish: BeginAdapter) -> AdapterBegun | AdapterNotBegun:
        """A fresh adapter, with fresh moments and its own step count, on the merged model."""
        if wish.night != self._night:
            return AdapterNotBegun(why="the Trainer has restarted since it yielded")
        if self._changes != self._committed_changes:
            return AdapterNotBegun(why="what it would end was found damaged on disk, and must be committed anew first")
        number = int(self._state.adapter_id.removeprefix("a")) + 1
        state = replace(
            self._as_filed(self._state),
            adapter_id=f"a{number:04d}",
            adapter_step=0,
            base=wish.night,
            learning_since=None,
        )
        self._loaded = False  # until the night is closed, nobody knows whether this adapter will be in force
        begun = await self.device_call(lambda: self._jobs.begin_adapter(state, wish.model_path, wish.model_digest))
        self._begun = begun.state if isinstance(begun, AdapterBegun) else None
        return begun

    @on(control=True)
    async def night_closed(self, closed: NightClosed) -> None:
        """Train on: on the fresh adapter if the night was committed, else on yesterday's."""
        if not self._night:
            return
        self._night = ""
        self._told = ""
        state = self._begun
        if closed.committed and state is not None and state.base == closed.night:
            self._state = self._as_filed(state)
            self._loaded = True
        await self._advance()
