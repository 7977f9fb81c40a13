"""What the Trainer's thread does: load, open a batch, take a slice of steps, snapshot. Each job returns a message.

Guarantees: a job that is interrupted returns at the next step boundary with everything it did; an ``EngineError`` or an
``OSError`` becomes ``EngineStumbled``, after which the engine's state is not to be trusted. Knows nothing of mailboxes
or commits; runs only on the device thread, one job at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from msgspec.structs import replace

from actors.trainer.engine import Engine, EngineError, Interrupted, Step
from actors.trainer.settings import TrainerSettings
from messages import (
    AdapterBegun,
    AdapterNotBegun,
    BatchAccepted,
    BatchExhausted,
    BatchOpened,
    BatchTrained,
    Cursor,
    EngineLoaded,
    EngineStumbled,
    LearningState,
    ModelRefused,
    Receipt,
    StateInForce,
    StepsTaken,
)
from runtime.cloakroom import Cloakroom
from runtime.disk import DiskPort
from runtime.manifest import FolderDamaged, verify_folder

SKIPS_IN_A_ROW_MAX = 3
"""So many steps without a finite loss or gradient, one after the other, and the batch is set aside."""


class DeviceJobs:
    """One engine and the jobs it is given.

    ``done_state`` is the state after the last job, and ``done_outcome`` the receipt if that job ended a batch. The
    actor reads them when it stops, for then the job's own message comes too late to be handled.
    """

    def __init__(
        self,
        engine: Engine,
        settings: TrainerSettings,
        cloakroom: Cloakroom,
        disk: DiskPort,
        *,
        seconds: Callable[[], float],
        now: Callable[[], datetime],
        interrupted: Interrupted,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._cloakroom = cloakroom
        self._disk = disk
        self._seconds = seconds
        self._now = now
        self._interrupted = interrupted
        self._skips_in_a_row = 0
        self.done_state: LearningState | None = None
        self.done_outcome: BatchTrained | None = None

    def load(self, force: StateInForce) -> EngineLoaded | EngineStumbled | ModelRefused:
        """Load what is in force; in a home where nothing was ever committed, begin its first adapter.

        A merged model is compared with what was committed before a byte of it reaches the engine: it is read once more
        for that, at the pace of the disk.
        """
        self.done_state = None
        state = force.state
        if force.model_digest:
            try:
                verify_folder(self._disk, force.model_path, force.model_digest)
            except FolderDamaged as damage:
                return ModelRefused(path=force.model_path, why=str(damage))
        elif force.model_path and self._disk.stat(force.model_path) is None:
            return ModelRefused(path=force.model_path, why=f"{force.model_path} is gone")
        if force.generation == 0:
            state = replace(state, seed=self._settings.seed, threads=self._settings.threads)
        try:
            info = self._engine.load(state, force.path, force.model_path)
        except (EngineError, OSError) as error:
            return stumbled(error)
        if state.base_fingerprint and state.base_fingerprint != info.fingerprint:
            return EngineStumbled(
                code="NF-MODEL-010",
                why=f"the base model is not the one this home began with: expected fingerprint "
                f"{state.base_fingerprint}, found {info.fingerprint} at {info.model}",
                transient=False,
            )
        state = replace(state, base_fingerprint=info.fingerprint, threads=state.threads or info.threads)
        self.done_state = state
        return EngineLoaded(
            state=state,
            generation=force.generation,
            device=info.device,
            dtype=info.dtype,
            model=info.model,
            parameters=info.parameters,
            trainable=info.trainable,
        )

    def open_batch(self, state: LearningState, accepted: BatchAccepted) -> BatchOpened | EngineStumbled:
        """Plan the batch and, before its first step, measure the loss it starts from."""
        self._skips_in_a_row = 0
        cursor = state.cursor
        resumed = cursor is not None
        if cursor is None:
            cursor = Cursor(
                batch=accepted.batch,
                name=accepted.name,
                path=accepted.path,
                digest=accepted.digest,
                examples=accepted.examples,
                step=0,
                steps=0,
                epochs=self._settings.epochs,
                first_global_step=state.global_step,
            )
        try:
            plan = self._engine.open_batch(accepted.path, cursor, state.adapter_step)
            loss_before = cursor.loss_before if resumed else self._engine.evaluate()
            held_out_before = cursor.loss_held_out_before if resumed else self._engine.evaluate_held_out()
        except (EngineError, OSError) as error:
            return stumbled(error)
        cursor = replace(
            cursor,
            examples=plan.examples,
            steps=plan.steps,
            epochs=plan.epochs,
            loss_before=loss_before,
            tokens_trained=plan.tokens_trained,
            tokens_masked=plan.tokens_masked,
            tokens_cut=plan.tokens_cut,
            resumed=cursor.resumed + resumed,
            warnings=cursor.warnings if resumed else (*accepted.warnings, *plan.warnings),
            held_out=plan.held_out,
            loss_held_out_before=held_out_before,
        )
        return BatchOpened(cursor=cursor, tokens=plan.tokens_trained + plan.tokens_masked)

    def slice(
        self, state: LearningState, accepted: BatchAccepted, *, at_most: int | None, snapshot_after: int | None
    ) -> StepsTaken | BatchExhausted | EngineStumbled:
        """Take steps until the slice's time or ``at_most`` is used up, the batch ends, or the flag is raised.

        A snapshot follows if at least ``snapshot_after`` steps were taken; ``None``: no snapshot.
        """
        self.done_state = None  # until the slice is over, the weights belong to no state that may be committed
        try:
            return self._slice(state, accepted, at_most, snapshot_after)
        except (EngineError, OSError) as error:
            return stumbled(error)

    def snapshot(self, state: LearningState) -> StepsTaken | EngineStumbled:
        """No step; only the state as it is, for a commit."""
        try:
            ticket, _ = self._leave_snapshot()
        except (EngineError, OSError) as error:
            return stumbled(error)
        self.done_state, self.done_outcome = state, None
        return _taken(state, [], 0.0, ticket)

    def begin_adapter(
        self, state: LearningState, model_path: str, model_digest: str = ""
    ) -> AdapterBegun | AdapterNotBegun:
        """Load the merged model at ``model_path`` and put a fresh adapter on it."""
        self.done_state = None
        try:
            if model_digest:
                verify_folder(self._disk, model_path, model_digest)
            self._engine.load(state, "", model_path)
            ticket, _ = self._leave_snapshot()
        except (EngineError, FolderDamaged, OSError) as error:
            return AdapterNotBegun(why=str(error))
        self.done_state, self.done_outcome = state, None
        return AdapterBegun(state=state, ticket=ticket)

    def unload(self) -> None:
        """Let go of the weights."""
        self._engine.unload()

    def _slice(
        self, state: LearningState, accepted: BatchAccepted, at_most: int | None, snapshot_after: int | None
    ) -> StepsTaken | BatchExhausted | EngineStumbled:
        began = self._seconds()
        steps: list[Step] = []
        cursor = _cursor(state)
        while cursor.step < cursor.steps and len(steps) != at_most and not self._interrupted():
            step = self._engine.step(state.adapter_step)
            steps.append(step)
            state = self._counted(state, step)
            cursor = _cursor(state)
            if self._skips_in_a_row >= SKIPS_IN_A_ROW_MAX:
                return EngineStumbled(
                    code="NF-TRAIN-010",
                    why=f"{SKIPS_IN_A_ROW_MAX} steps in a row were not finite; the last: {step.skipped}",
                    transient=False,
                )
            if self._seconds() - began >= self._settings.slice_seconds:
                break
        seconds = self._seconds() - began
        state = replace(state, cursor=replace(cursor, seconds=round(cursor.seconds + seconds, 3)))
        if cursor.step >= cursor.steps:
            return self._exhausted(state, accepted)
        ticket = ""
        if snapshot_after is not None and len(steps) >= snapshot_after:
            ticket, blocked = self._leave_snapshot()
            state = replace(state, cursor=_with_checkpoint(_cursor(state), blocked))
        self.done_state, self.done_outcome = state, None
        return _taken(state, steps, seconds, ticket)

    def _leave_snapshot(self) -> tuple[str, float]:
        """Leave a snapshot in the cloakroom: its ticket, and for how many seconds training stood still for it."""
        began = self._seconds()
        snapshot = self._engine.snapshot()
        ticket = self._cloakroom.leave(snapshot, lambda: self._engine.reuse(snapshot))
        return ticket, self._seconds() - began

    def _counted(self, state: LearningState, step: Step) -> LearningState:
        """The state after one step. A skipped step moves the cursor and nothing else."""
        cursor = _cursor(state)
        if step.skipped:
            self._skips_in_a_row += 1
            return replace(state, cursor=replace(cursor, step=cursor.step + 1, steps_skipped=cursor.steps_skipped + 1))
        self._skips_in_a_row = 0
        warnings = cursor.warnings
        if step.micro_batch:
            told = f"out of memory: steps were finished {step.micro_batch} examples at a time"
            warnings = warnings if told in warnings else (*warnings, told)
        return replace(
            state,
            global_step=state.global_step + 1,
            adapter_step=state.adapter_step + 1,
            learning_since=state.learning_since or self._now().isoformat(timespec="seconds"),
            cursor=replace(cursor, step=cursor.step + 1, warnings=warnings),
        )

    def _exhausted(self, state: LearningState, accepted: BatchAccepted) -> BatchExhausted:
        """The batch is done: measure again, snapshot, write the receipt into the state."""
        loss_after = self._engine.evaluate()
        ticket, blocked = self._leave_snapshot()
        cursor = _with_checkpoint(_cursor(state), blocked)
        stood_still = cursor.checkpoint_seconds
        receipt = Receipt(
            batch=cursor.batch,
            name=cursor.name,
            digest=cursor.digest,
            examples=cursor.examples,
            epochs=cursor.epochs,
            steps=cursor.steps,
            first_global_step=cursor.first_global_step + 1,
            last_global_step=state.global_step,
            adapter_id=state.adapter_id,
            tokens_trained=cursor.tokens_trained,
            tokens_masked=cursor.tokens_masked,
            tokens_cut=cursor.tokens_cut,
            loss_before=cursor.loss_before,
            loss_after=loss_after,
            seconds=cursor.seconds,
            checkpoints=cursor.checkpoints,
            checkpoint_seconds=round(stood_still, 4),
            checkpoint_share=round(stood_still / (cursor.seconds + stood_still), 6) if cursor.seconds else 0.0,
            steps_skipped=cursor.steps_skipped,
            resumed=cursor.resumed,
            when=self._now().isoformat(timespec="seconds"),
            warnings=cursor.warnings,
            line_errors=accepted.line_errors,
            line_error_count=accepted.line_error_count,
            held_out=cursor.held_out,
            loss_held_out_before=cursor.loss_held_out_before,
            loss_held_out_after=self._engine.evaluate_held_out(),
        )
        trained = BatchTrained(batch=cursor.batch, name=cursor.name, receipt=receipt)
        state = replace(state, cursor=None, unfiled=(*state.unfiled, trained))
        self._engine.close_batch()
        self.done_state, self.done_outcome = state, trained
        return BatchExhausted(state=state, trained=trained, ticket=ticket)


def stumbled(error: EngineError | OSError) -> EngineStumbled:
    """An engine's or a disk's trouble as a message."""
    if isinstance(error, EngineError):
        return EngineStumbled(code=error.code, why=error.why, transient=error.transient)
    return EngineStumbled(code="NF-DISK-003", why=str(error), transient=True)


def _cursor(state: LearningState) -> Cursor:
    assert state.cursor is not None, "a slice belongs to an open batch"
    return state.cursor


def _with_checkpoint(cursor: Cursor, blocked: float) -> Cursor:
    seconds = round(cursor.checkpoint_seconds + blocked, 6)
    return replace(cursor, checkpoints=cursor.checkpoints + 1, checkpoint_seconds=seconds)


def _taken(state: LearningState, steps: list[Step], seconds: float, ticket: str) -> StepsTaken:
    counted = [step for step in steps if not step.skipped]
    tokens = sum(step.tokens for step in counted)
    loss = sum(step.loss * step.tokens for step in counted) / tokens if tokens else None
    return StepsTaken(
        state=state,
        taken=len(steps),
        loss=loss,
        learning_rate=counted[-1].learning_rate if counted else 0.0,
        grad_norm=counted[-1].grad_norm if counted else None,
        seconds=seconds,
        tokens=tokens,
        micro_batch=max((step.micro_batch for step in counted), default=0),
        skipped=len(steps) - len(counted),
        ticket=ticket,
    )
