"""One move from the old home to the new: checks everything there is, then writes.

Guarantees that ``check`` writes nothing and goes on after each problem as far as it can, and that nothing is written if
the old home changed while it was read.
"""

from __future__ import annotations

import errno
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

from actors.checkpointer.head import Kept
from actors.trainer.engine import EngineError
from actors.trainer.settings import TrainerSettings
from actors.trainer.torch_engine import learning_rate
from runtime.settings import compose
from tools.house import SECTIONS
from tools.moving_in.fit import Fitting, files_of, fitted, state_of
from tools.moving_in.new_config import config_text, differences, wanted_settings
from tools.moving_in.new_home import Destination, Learnt
from tools.moving_in.notes import Notes
from tools.moving_in.old_checkpoint import OPTIMIZER, SCHEDULER, OldCheckpoint, read_checkpoint
from tools.moving_in.old_home import OldHome, day_of
from tools.moving_in.which_base import Base, choose_base, tell_of_the_choice


class Move:
    """``check``, and if ``notes`` has no problems then, ``write``."""

    def __init__(self, old: Path, home: Path, notes: Notes, *, base: str | None, fresh_optimizer: bool) -> None:
        self._notes = notes
        self._fresh = fresh_optimizer
        self._wished_base = base
        self.destination = Destination(home, old, notes)
        self._old = OldHome(old, notes)
        self._text = ""
        self._base: Base | None = None
        self._learnt: Learnt | None = None
        self._settings = TrainerSettings()
        self._snapshots: dict[str, Path] = {}

    def check(self, now: datetime) -> None:
        """Find every problem there is."""
        notes, old = self._notes, self._old
        self._base = base = choose_base(old, self._wished_base, notes)
        read, current = self._read(old.current, base)
        notes.problems.extend(read.problems)
        if base is not None:
            self.destination.check_base(base, notes)
            tell_of_the_choice(old, base, read, notes)
        if base is not None and current is not None:
            self._prepare(base, current, read, now)
        if changed := old.changed_since():
            found = f"somebody wrote it while it was read: {changed[0]} and {len(changed) - 1} more"
            notes.problem("NF-STATE-011", str(old.folder), found, "a home at rest", "stop the old trainer first")

    def _prepare(self, base: Base, current: Fitting, read: OldCheckpoint, now: datetime) -> None:
        notes, old = self._notes, self._old
        wanted = wanted_settings(old, current, notes)
        if self.destination.exists:
            settings = self.destination.config.take("trainer", TrainerSettings)
            for words in differences(wanted, settings):
                notes.tell(words)
        self._snapshots_that_fit(base, current)
        if not self.destination.exists:
            self._text = config_text(base.named, wanted, len(self._snapshots))
            settings = compose(self._text, SECTIONS, file="nightfold.toml").take("trainer", TrainerSettings)
        try:
            self._learnt = _learnt(current, base, settings, now)
        except EngineError as error:
            expected, todo = "what the Trainer can load", "see nightfold explain " + error.code
            notes.problem("NF-STATE-012", str(old.current), str(error), expected, todo)
            return
        self._settings = settings
        self.destination.check_space(base, self._learnt, len(self._snapshots), notes)
        self._tell(current, read, settings)

    def _read(self, folder: Path, base: Base | None) -> tuple[OldCheckpoint, Fitting | None]:
        read = read_checkpoint(folder, fresh_optimizer=self._fresh)
        fitting = fitted(read, base, fresh_optimizer=self._fresh, never_merged=not self._old.models)
        return read, fitting

    # Snapshots.

    def _snapshots_that_fit(self, base: Base, current: Fitting) -> None:
        """Of each day the newest one that is sound and stands on the same base."""
        for folder in reversed(self._old.snapshots):
            day = day_of(folder.name)
            why, fitting = self._snapshot(folder, day, base, current)
            if fitting is None or day is None:
                self._notes.leave(str(folder), why, "it stays where it is; nothing of it is needed to go on")
            else:
                self._snapshots[day.isoformat()] = folder

    def _snapshot(self, folder: Path, day: date | None, base: Base, current: Fitting) -> tuple[str, Fitting | None]:
        if day is None:
            return "its name is no date", None
        if day.isoformat() in self._snapshots:
            return "a newer one of the same day was taken", None
        merged = day_of(base.consolidated) if base.consolidated else None
        if merged is not None and day < merged:
            return f"it stands on the model before the consolidation of {base.consolidated}", None
        read, fitting = self._read(folder, base)
        if fitting is None:
            return "; ".join(f"{one.code} {Path(one.where).name}: {one.found}" for one in read.problems), None
        began, began_current = (one.global_step - one.adapter_step for one in (fitting, current))
        # On the day itself, and where the model's name has no date, the steps tell the adapters apart.
        if self._old.models and (merged is None or day == merged) and began != began_current:
            return f"its adapter began at step {began}, and the one in force at {began_current}", None
        return "", fitting

    # What a person should know.

    def _tell(self, current: Fitting, read: OldCheckpoint, settings: TrainerSettings) -> None:
        tell = self._notes.tell
        tell(
            f"adapter: {len(current.weights)} matrices; it goes on at step {current.global_step}, "
            f"{current.adapter_step} of them its own (by {current.counted_by})"
        )
        if current.moments is None:
            tell(f"optimizer: FRESH moments, as --fresh-optimizer asked; {OPTIMIZER} was not opened")
        else:
            tell(f"optimizer: the moments of all {len(current.moments.of)} matrices, at step {current.moments.step}")
            if current.moments.step != current.adapter_step:
                tell("optimizer: that is another number than the adapter's; both go on as they are")
        self._tell_of_rate(current, read, settings)
        tell("generators: they begin at the seed; they only draw dropout")
        if self._old.snapshots:
            tell(f"snapshots: {len(self._snapshots)} of {len(self._old.snapshots)} taken")
        if self._old.last_consolidation:
            tell(f"last consolidation there: {self._old.last_consolidation}; the first night here is due as usual")
        self._old.tell_of_the_rest(self._notes)

    def _tell_of_rate(self, current: Fitting, read: OldCheckpoint, settings: TrainerSettings) -> None:
        step, warm = current.adapter_step, settings.warmup_steps
        place = f"{step} of {warm} warm-up steps" if step < warm else f"past the {warm} warm-up steps"
        words = f"learning rate: {place}; the next step is at {learning_rate(settings, step):g}"
        last = (read.scheduler or {}).get("_last_lr")
        if isinstance(last, list) and last and isinstance(last[0], int | float):
            words += f"; the old schedule stood at {last[0]:g}"
        self._notes.tell(words)
        trouble = read.scheduler_trouble or ("" if read.scheduler is not None else "it is not there")
        if trouble:
            where = str(self._old.current / SCHEDULER)
            self._notes.leave(where, trouble, "nothing: the rate follows from the adapter's own steps")

    def write(self) -> Kept:
        """Make the home; ``check`` found nothing in the way."""
        assert self._base is not None, "without a base there was a problem"
        assert self._learnt is not None, "without an adapter there was a problem"
        snapshots = {day: partial(self._again, folder, self._base) for day, folder in self._snapshots.items()}
        return self.destination.write(self._text, self._base, self._learnt, snapshots, self._notes)

    def _again(self, folder: Path, base: Base) -> Learnt:
        """A snapshot that was found sound, read once more: all of them at once may be more than the memory holds."""
        fitting = self._read(folder, base)[1]
        if fitting is None:
            raise OSError(errno.EIO, "it changed since it was checked", str(folder))
        return _learnt(fitting, base, self._settings, _changed(folder))


def _learnt(fitting: Fitting, base: Base, settings: TrainerSettings, when: datetime) -> Learnt:
    moment = when.isoformat(timespec="seconds")
    return Learnt(files_of(fitting, base, settings), state_of(fitting, base, settings, moment), moment)


def _changed(folder: Path) -> datetime:
    newest: Any = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
    return datetime.fromtimestamp(newest).astimezone()
