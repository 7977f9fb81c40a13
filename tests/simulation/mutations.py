"""The bugs that the simulation must find: each is one broken protocol, planted alone into the running program.

A mutation is worth its place if it breaks a promise that somebody relies on. One that breaks none is no mutation, and
one that the simulation does not find is a gap in the simulation: it is named in ``BLIND``, with what would see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.simulation.planting import Edit

DURABLE = "runtime.durable"
STORE = "actors.checkpointer.store:Store"
CHECKPOINTER = "actors.checkpointer.actor:Checkpointer"
RETENTION = "actors.checkpointer.retention"
LEARNING = f"{RETENTION}:_Learning"
TRAINER = "actors.trainer.actor:Trainer"
JOBS = "actors.trainer.jobs:DeviceJobs"
INBOX = "actors.inbox_watcher.actor:InboxWatcher"
FILING = "actors.inbox_watcher.filing"
NIGHTS = "actors.consolidator.actor:Consolidator"
CARE = "actors.consolidator.model_care:ModelCare"
HEALER = "actors.checkpointer.healing:Healer"
READING = "actors.checkpointer.verification:reading"


@dataclass(frozen=True)
class Mutation:
    """One planted bug.

    Attributes:
        name: what is wrong, in a few words.
        breaks: which promise it breaks, and how.
        edits: the rewriting of the program.
        within: it must be found in at most so many seeds.
        first_seed: of the hunt. A seed that finds it soon keeps the tests short; it proves nothing.
        days: how long each universe lives.
        scenery: rewriting without which the bug does not show and which alone breaks nothing.
        climate: figures of the universe's climate that are other than usual, for what ordinary weather seldom shows.
        blind: why the simulation does not find it yet, and what would; such a one is planted and not hunted in tests.
    """

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    within: int = 60
    first_seed: int = 0
    days: float = 0.1
    scenery: tuple[Edit, ...] = ()
    climate: Mapping[str, object] = field(default_factory=dict)
    blind: str = ""


HIGH_GENERATIONS = (Edit("actors.checkpointer.head:Head.next_generation", "default=0", "default=999995"),)
HIGH_BATCHES = (Edit(f"{FILING}:_last_number", "default=0", "default=999997"),)

# Everybody pins, and snapshots alone.
SNAPSHOTS_PINNED = (
    Edit("tools.simulated_house.people:_Planner.pins", "if chance.random() < 2 / 3:", "if chance.random() < 0:"),
    Edit(
        "tools.simulated_house.people:_Planner.pins",
        "kind = chance.choice(('generation', 'generation', 'night', 'snapshot'))",
        "kind = 'snapshot'",
    ),
)

# More files at once than are claimed ahead.
HEAPS = (
    Edit("tools.simulated_house.people:_Planner.heap", "if chance.random() < 0.25:", "if chance.random() < 1.0:"),
    Edit("tools.simulated_house.people:_Planner.heap", "at + number / 4", "at"),
)

# The store itself refuses counters that do not go on from those before; without that, others must see it.
UNCHAINED = Edit(
    "actors.checkpointer.verification:check_chain",
    "grown < 0 or (same_adapter and manifest.adapter_step - parent.adapter_step != grown)",
    "False",
)

# Every life but those of calm universes ends by a power cut, half of them close to something done in these places.
HEAD_STORM = {"cut": 100.0, "cut_after": 200.0, "aims": ("state/.", "state/HEAD")}
COMMIT_CUTS = {"cut": 100.0, "cut_after": 200.0, "aims": ("state/generations",)}
COMMIT_STORM = {"cut": 100.0, "cut_after": 200.0, "io": 0.03, "aims": ("state/generations",)}
COPY_STORM = {
    "cut": 100.0,
    "cut_after": 200.0,
    "cut_passes": 2.0,
    "io": 0.03,
    "aims": ("snapshots", "state/generations"),
}
FULL_DISKS = {"io": 0.04}
CLAIM_ERRORS = {"io_aimed": 0.4, "aims": ("state/batches",)}
FILE_STORM = {"cut": 100.0, "cut_after": 300.0, "io": 0.01, "aims": ("state/batches", "trained/")}
# Soon after a commit, and before what follows a night syncs the merged models once more.
LINK_CUTS = {"cut": 100.0, "cut_after": 400.0, "cut_passes": 1.0, "aims": ("current_model",)}
NIGHT_STORM = {"cut": 100.0, "cut_after": 800.0, "aims": ("consolidated_models", "state/deltas")}
LONG_NIGHTS = {"cut": 3.0, "cut_after": 1500.0, "io": 0.01, "aims": ("consolidated_models",)}
MODEL_ROT = {"cut": 0.2, "others": {"engine": 0.0, "merge": 0.0, "rot": 0.3}}
MODEL_ROT_STORM = {
    "cut": 20.0,
    "cut_after": 1500.0,
    "aims": ("consolidated_models",),
    "others": {"engine": 0.0, "merge": 0.0, "rot": 0.5},
}

CALM = {
    **dict.fromkeys(("cut", "io", "io_aimed", "crash", "crash_aimed", "job", "device", "disk_full", "slow_disk"), 0.0),
    "others": {"engine": 0.0, "merge": 0.0},
}
FULL_FOR_HOURS = {**CALM, "disk_full": 4.0}
ROT = {**CALM, "bit_rot": 60.0}
KILL_STORM = {
    "cut": 100.0,
    "kill": 0.6,
    "cut_after": 150.0,
    "aims": ("state/HEAD", "state/generations", "state/batches"),
}
NIGHT_ERRORS = {"io_aimed": 0.4, "aims": ("state/deltas",)}
TRAINER_CRASHES = {"crash_aims": ("StepsTaken", "EngineLoaded", "BatchOpened"), "crash_aimed": 0.3}
OUTCOME_CRASHES = {
    "crash_aims": ("BatchTrained", "BatchFiled", "GenerationCommitted", "BatchAccepted"),
    "crash_aimed": 0.4,
}
CLAIM_CRASHES = {"crash_aims": ("BatchClaimed",), "crash_aimed": 0.4, "crash_again": 0.9}

MUTATIONS = (
    # The durable protocols.
    Mutation(
        "content is not synced",
        "A file's name is durable before its content, so a power cut shows it empty or torn.",
        (Edit(f"{DURABLE}:write_new", "\n        disk.fsync(handle)", ""),),
        within=48,
        first_seed=13,
    ),
    Mutation(
        "renamed before it is synced",
        "For a moment the new name shows what a power cut takes away; the old content is gone.",
        (
            Edit(
                f"{DURABLE}:write_file",
                "write_new(disk, temporary, data)\n        disk.rename(temporary, path)",
                "with _writing(disk, temporary) as handle:\n"
                "            disk.write(handle, data)\n"
                "            disk.rename(temporary, path)\n"
                "            disk.fsync_dir(parent_of(path))\n"
                "            disk.fsync(handle)",
            ),
        ),
        within=120,
        climate=HEAD_STORM,
        days=0.2,
        first_seed=3,
    ),
    Mutation(
        "a replaced file's folder is not synced",
        "HEAD's rename may be forgotten after the commit was announced.",
        (Edit(f"{DURABLE}:write_file", "disk.fsync_dir(parent_of(path))", "return"),),
        within=105,
        first_seed=19,
        climate=HEAD_STORM,
        days=0.2,
    ),
    Mutation(
        "a staged folder is not synced",
        "A generation may be shown without some of its files.",
        (Edit(f"{DURABLE}:write_directory", "disk.fsync_dir(staged)", "disk.stat(staged)"),),
        within=48,
        first_seed=13,
    ),
    Mutation(
        "HEAD before its generation's folder is synced",
        "HEAD may name a generation whose own name the power cut took back.",
        (Edit(f"{DURABLE}:write_directory", "disk.fsync_dir(parent_of(path))", "return"),),
        within=48,
        first_seed=13,
    ),
    Mutation(
        "a merged model is shown without a sync",
        "HEAD may stand on a model that the power cut took back.",
        (Edit(f"{DURABLE}:show_directory", "disk.fsync_dir(parent_of(path))", "return"),),
        within=60,
        climate=LINK_CUTS,
        days=0.3,
        first_seed=2,
    ),
    Mutation(
        "a moved file is not synced",
        "What was announced as claimed or filed may be back in its old place.",
        (
            Edit(
                f"{DURABLE}:move_file",
                "disk.fsync_dir(parent_of(target))\n    disk.fsync_dir(parent_of(source))",
                "return",
            ),
        ),
        within=80,
        first_seed=19,
        climate=FILE_STORM,
    ),
    Mutation(
        "a refused write passes for done",
        "A full disk or an I/O error is swallowed, and what was not written is announced.",
        (
            Edit(
                f"{DURABLE}:write_file",
                "_discard(disk, temporary)\n        raise",
                "_discard(disk, temporary)\n        return",
            ),
        ),
        within=40,
        first_seed=4,
        climate=FULL_DISKS,
    ),
    Mutation(
        "a full disk cuts a write short, unnoticed",
        "What was written in part passes for whole.",
        (
            Edit(
                f"{DURABLE}:write_new",
                "disk.write(handle, data)",
                "with contextlib.suppress(OSError):\n            disk.write(handle, data)",
            ),
        ),
        within=60,
        first_seed=36,
        climate=FULL_DISKS,
    ),
    Mutation(
        "a failed sync is tried again and believed",
        "After a failed fsync the kernel has dropped the pages: the second success saves nothing.",
        (
            Edit(
                f"{DURABLE}:write_new",
                "disk.fsync(handle)",
                "try:\n            disk.fsync(handle)\n        except OSError:\n            disk.fsync(handle)",
            ),
        ),
        within=90,
        first_seed=40,
        climate=COMMIT_STORM,
        days=0.2,
    ),
    # Commits.
    Mutation(
        "HEAD is written in place",
        "A cut while it is written leaves no HEAD, or half of one.",
        (
            Edit(
                f"{STORE}._put_in_force",
                "durable.write_file(self._disk, HEAD_PATH, raw)",
                "durable.remove(self._disk, HEAD_PATH)\n"
                "        durable.write_new(self._disk, HEAD_PATH, raw)\n"
                "        self._disk.fsync_dir('state')",
            ),
        ),
        within=60,
        first_seed=4,
        climate=HEAD_STORM,
        days=0.2,
    ),
    Mutation(
        "HEAD is written before its generation",
        "A cut between the two leaves HEAD naming what was never finished.",
        (
            Edit(
                f"{STORE}._write_generation",
                "durable.write_directory(self._disk, path, {**content, MANIFEST: raw})\n"
                "    read_back(self._disk, path, durable.digest_of_bytes(raw))",
                "self.late = (path, {**content, MANIFEST: raw})",
            ),
            Edit(
                f"{STORE}._put_in_force",
                "return new",
                "late, self.late = (getattr(self, 'late', None), None)\n"
                "    if late:\n        durable.write_directory(self._disk, *late)\n    return new",
            ),
        ),
    ),
    Mutation(
        "HEAD is written before the manifest",
        "HEAD names a generation that cannot be checked, and is taken for damaged.",
        (
            Edit(
                f"{STORE}._write_generation",
                "durable.write_directory(self._disk, path, {**content, MANIFEST: raw})\n"
                "    read_back(self._disk, path, durable.digest_of_bytes(raw))",
                "durable.write_directory(self._disk, path, content)\n    self.late = (f'{path}/{MANIFEST}', raw)",
            ),
            Edit(
                f"{STORE}._put_in_force",
                "return new",
                "late, self.late = (getattr(self, 'late', None), None)\n"
                "    if late:\n        durable.write_file(self._disk, *late)\n    return new",
            ),
        ),
    ),
    Mutation(
        "every third HEAD stays in memory",
        "A commit is announced of which the disk knows nothing.",
        (
            Edit(
                f"{STORE}._put_in_force",
                "durable.write_file(self._disk, HEAD_PATH, raw)",
                "head.number % 3 == 2 or durable.write_file(self._disk, HEAD_PATH, raw)",
            ),
        ),
    ),
    Mutation(
        "deleted before the commit",
        "What the new HEAD will no longer keep is deleted while the old one still names it.",
        (
            Edit(
                f"{STORE}._put_in_force",
                "raw = sealed(new)",
                "raw = sealed(new)\n"
                "    if self.head is not None:\n"
                "        for gone in {kept.path for kept in self.head.kept} - {kept.path for kept in new.kept}:\n"
                "            durable.remove(self._disk, gone)",
            ),
        ),
        within=120,
        climate=COMMIT_CUTS,
        days=0.2,
        first_seed=18,
    ),
    Mutation(
        "retention deletes what HEAD keeps",
        "A generation that may be put in force again is gone.",
        (
            Edit(f"{RETENTION}:judge", "{kept.path for kept in head.kept}", "{kept.path for kept in head.kept[-2:]}"),
            Edit(f"{STORE}._prunable", " and one.path not in reached", ""),
        ),
    ),
    Mutation(
        "a HEAD that shows after a failed sync is forgotten",
        "The next commit writes over the generation that HEAD on the disk already names.",
        (Edit(f"{STORE}._put_in_force", "self.head = new", "self._disk.stat(HEAD_PATH)"),),
        within=120,
        climate=FULL_DISKS,
        days=0.3,
        first_seed=36,
    ),
    Mutation(
        "a start builds on names that are not synced",
        "What a killed life had shown is read, built on, and then taken back by a power cut.",
        (
            Edit(
                f"{STORE}.open",
                "self._disk.fsync_dir(GENERATIONS)\n    self._disk.fsync_dir('state')",
                "self._disk.stat('state')",
            ),
        ),
        within=40,
        climate=KILL_STORM,
        days=0.2,
        blind="A power cut aimed at the first operations of the life after a kill.",
    ),
    Mutation(
        "what interrupted commits left is not swept",
        "Half-written folders pile up under state/.",
        (
            Edit(
                f"{STORE}._sweep_leftovers",
                "for folder in ('.', 'state', GENERATIONS, DELTAS, SNAPSHOTS, SET_ASIDE)",
                "for folder in ()",
            ),
            Edit(f"{STORE}._prunable", "one.kind == 'leftover'", "False"),
        ),
        within=60,
        first_seed=26,
        climate=COPY_STORM,
        days=0.2,
    ),
    Mutation(
        "a refused commit is announced as done",
        "Out of space, and the Trainer hears of a commit that never was.",
        (
            Edit(
                "actors.checkpointer.actor:Checkpointer._commit",
                "except OSError as error:\n",
                "except OSError as error:\n"
                "        if self._store.head is not None and error.errno == errno.ENOSPC:\n"
                "            kept = self._store.head.in_force\n"
                "            return GenerationCommitted(ticket=ticket, generation=kept.generation, path=kept.path,"
                " why=request.why, global_step=kept.global_step, adapter_id=kept.adapter_id,"
                " adapter_step=kept.adapter_step, size_bytes=kept.size_bytes, seconds=0.0)\n",
            ),
        ),
        within=40,
        first_seed=4,
        climate=FULL_DISKS,
    ),
    Mutation(
        "generations are numbered by the order of their names",
        "The number after 999 999 is given again and again, over what HEAD keeps.",
        (
            Edit(
                "actors.checkpointer.head:Head.next_generation",
                "max((kept.generation for kept in self.kept), default=999995)",
                "int(max((str(kept.generation) for kept in self.kept), default=999995))",
            ),
        ),
        scenery=HIGH_GENERATIONS,
        within=30,
    ),
    # Training.
    Mutation(
        "the cursor is forgotten",
        "An interrupted batch begins again: its first steps are trained twice.",
        (
            Edit(
                f"{JOBS}.open_batch",
                "cursor = state.cursor\n",
                "cursor = state.cursor and replace(state.cursor, step=0)\n",
            ),
        ),
        within=30,
        first_seed=5,
    ),
    Mutation(
        "the cursor lags one step behind the weights",
        "After a crash one step is trained twice.",
        (
            Edit(
                f"{JOBS}._slice",
                "cursor=_with_checkpoint(_cursor(state), blocked)",
                "cursor=replace(_with_checkpoint(_cursor(state), blocked), step=max(0, cursor.step - 1))",
            ),
        ),
    ),
    Mutation(
        "the weights are snapshot before the last step of a slice",
        "The counters are of one step and the weights of another.",
        (
            Edit(
                f"{JOBS}._slice",
                "step = self._engine.step(",
                "self.old = self._engine.snapshot()\n        step = self._engine.step(",
            ),
            Edit(
                f"{JOBS}._leave_snapshot",
                "snapshot = self._engine.snapshot()",
                "snapshot = getattr(self, 'old', None) or self._engine.snapshot()\n    self.old = None",
            ),
        ),
    ),
    Mutation(
        "optimizer and weights are of different steps",
        "Moments of an earlier step are saved beside newer weights.",
        (
            Edit(
                f"{JOBS}._leave_snapshot",
                "snapshot = self._engine.snapshot()",
                "new = dict(self._engine.snapshot())\n"
                "    name = 'optimizer.safetensors'\n"
                "    old, self.old = (getattr(self, 'old', bytes(new[name])), bytes(new[name]))\n"
                "    snapshot = {**new, name: old}",
            ),
        ),
        within=30,
        first_seed=3,
    ),
    Mutation(
        "a snapshot's memory is filled again before it is written",
        "What is committed is whatever the buffers hold by then.",
        (
            Edit(
                f"{CHECKPOINTER}._commit",
                "files = self.cloakroom.look(ticket)",
                "files = self.cloakroom.look(ticket)\n    self.cloakroom.hand_back(ticket)",
            ),
        ),
        within=5,
    ),
    Mutation(
        "a step that is not finite is counted",
        "The counters run ahead of the weights.",
        (Edit(f"{JOBS}._counted", "if step.skipped:", "if False:"),),
        within=111,
        first_seed=34,
    ),
    Mutation(
        "a receipt is off by one",
        "It speaks of one step more than was trained.",
        (
            Edit(
                f"{JOBS}._exhausted",
                "first_global_step=cursor.first_global_step + 1",
                "first_global_step=cursor.first_global_step",
            ),
        ),
    ),
    Mutation(
        "the outcome is not in the commit",
        "After a crash between commit and filing nobody knows that the batch was trained, and it is trained again.",
        (Edit(f"{JOBS}._exhausted", "unfiled=(*state.unfiled, trained)", "unfiled=state.unfiled"),),
    ),
    Mutation(
        "trained is announced before it is committed",
        "The file is filed with a receipt for learning that a power cut takes away.",
        (
            Edit(
                f"{TRAINER}.batch_exhausted",
                "await self._commit(",
                "await self.send(exhausted.trained)\n    await self._commit(",
            ),
        ),
        first_seed=30,
    ),
    Mutation(
        "a batch is begun while another is in training",
        "Steps of two batches are mixed.",
        (
            Edit(
                f"{TRAINER}._advance",
                "elif self._current is not None:",
                "elif self._current is not None and self._opened and (not self._queue):",
            ),
        ),
    ),
    Mutation(
        "the next batch is chosen by the order of names",
        "Batch 1 000 000 is trained before 999 999.",
        (Edit(f"{TRAINER}._next_batch", "min(self._queue, key=int)", "min(self._queue)"),),
        scenery=HIGH_BATCHES,
        within=51,
        first_seed=15,
        climate=CALM,
    ),
    Mutation(
        "an interrupted batch is overtaken",
        "Another begins while the interrupted one is on its way through the Validator.",
        (
            Edit(
                f"{TRAINER}._next_batch",
                "return self._queue.get(cursor.batch)",
                "return self._queue.get(cursor.batch) or next(iter(self._queue.values()), None)",
            ),
        ),
        within=40,
        climate=TRAINER_CRASHES,
        days=0.3,
        blind="More of the aimed crashes than a universe has: they have not come in the one handling that matters yet.",
    ),
    Mutation(
        "a batch whose file is gone is trained",
        "A message that was sent before decides, and not the disk: the batch is trained twice.",
        (Edit(f"{TRAINER}._next_batch", " and await self._is_there(batch.path)", ""),),
        within=40,
        climate=OUTCOME_CRASHES,
        days=0.3,
        blind="More of the aimed crashes than a universe has: they have not come in the one handling that matters yet.",
    ),
    Mutation(
        "a committed batch is trained again",
        "The load has told that its outcome is committed, and nobody looks.",
        (Edit(f"{TRAINER}._next_batch", "batch.batch not in committed and ", ""),),
        within=120,
        climate=OUTCOME_CRASHES,
        days=0.3,
        first_seed=77,
    ),
    Mutation(
        "the engine is trusted after it stumbled",
        "Part of a slice is in the weights and not in the counters.",
        (Edit(f"{TRAINER}.stumbled", "self._loaded = False\n", "self._loaded = not loading\n"),),
        within=30,
    ),
    Mutation(
        "a refused commit is never asked for again",
        "The Trainer holds for ever, and everything waits behind it.",
        (Edit(f"{TRAINER}.look_again", "if self._commits and (self._commit_refused or overdue):", "if False:"),),
        within=30,
        first_seed=22,
    ),
    Mutation(
        "a batch that cannot be trained is tried for ever",
        "Nothing behind it in the queue gets its outcome.",
        (
            Edit(
                f"{TRAINER}.stumbled",
                "if not trouble.transient or attempts >= self.settings.max_attempts:\n            self._give_up",
                "if attempts > 10 ** 6:\n            self._give_up",
            ),
        ),
        within=30,
    ),
    Mutation(
        "a failed batch's report forgets the steps that were kept",
        "A checkpoint within the batch is in force, and the paper says that none of it was learnt.",
        (Edit(f"{TRAINER}._with_steps_kept", "steps_kept=kept", "steps_kept=0"),),
        within=30,
    ),
    Mutation(
        "what was learnt is not committed at a stop",
        "An orderly stop says goodbye to steps that were taken.",
        (Edit(f"{TRAINER}.on_stop", "await self._commit_finally(state)", "return"),),
        within=100,
        days=1.0,
    ),
    Mutation(
        "the stop commits the state before last",
        "Counters of one moment beside weights of another.",
        (Edit(f"{TRAINER}.on_stop", "state = self._jobs.done_state", "state = self._jobs.done_state and self._state"),),
        within=40,
        days=1.0,
        first_seed=170,
    ),
    # The inbox.
    Mutation(
        "a file is taken while it is written",
        "Half of an upload is trained, and the rest is lost.",
        (Edit("actors.inbox_watcher.survey:_is_complete", "else not writing", "else True"),),
    ),
    Mutation(
        "a claim is not synced",
        "A power cut puts a claimed file back into the inbox, and it is trained under two numbers.",
        (
            Edit(
                f"{FILING}.claim".replace(".claim", ":claim"),
                "durable.move_file(disk, f'{INBOX}/{name}', f'{folder}/{shown(name)}')",
                "disk.rename(f'{INBOX}/{name}', f'{folder}/{shown(name)}')",
            ),
        ),
        within=120,
        first_seed=27,
        climate=FILE_STORM,
    ),
    Mutation(
        "a claim copies the file",
        "The file is in two places and is trained again and again.",
        (
            Edit(
                f"{FILING}:claim",
                "durable.move_file(disk, f'{INBOX}/{name}', f'{folder}/{shown(name)}')",
                "data = disk.read(f'{INBOX}/{name}')\n"
                "        durable.move_file(disk, f'{INBOX}/{name}', f'{folder}/{shown(name)}')\n"
                "        number % 3 or durable.write_file(disk, f'{INBOX}/{name}', data)",
            ),
        ),
    ),
    Mutation(
        "a found claim is not synced",
        "What an interrupted claim left is built on, and a later power cut takes it back.",
        (
            Edit(
                f"{FILING}:recover_claims",
                "disk.fsync_dir(f'{BATCHES}/{batch}')\n            disk.fsync_dir(INBOX)",
                "disk.stat(INBOX)",
            ),
        ),
        within=40,
        climate=KILL_STORM,
        days=0.2,
        blind="A power cut aimed at the first operations of the life after a kill.",
    ),
    Mutation(
        "an interrupted claim is not taken up",
        "A file that an I/O error left under state/batches/ waits until the next start.",
        (Edit(f"{INBOX}._claim", "self._claim_unsure = True", "self._claim_unsure = False"),),
        within=120,
        climate=CLAIM_ERRORS,
        first_seed=32,
    ),
    Mutation(
        "a rejected file is deleted",
        "Nothing that was dropped may vanish.",
        (
            Edit(
                f"{FILING}:file_away",
                "if source is not None:\n",
                "if source is not None and folder == 'rejected':\n        disk.unlink(claimed.path)\n"
                "    elif source is not None:\n",
            ),
        ),
    ),
    Mutation(
        "the paper is written after the move",
        "A cut between the two leaves a file without its receipt, and a receipt under another name.",
        (
            Edit(
                f"{FILING}:file_away",
                "\n    durable.write_file(disk, f'{folder}/{paper_name(name, kind)}', _readable(paper))",
                "",
            ),
            Edit(
                f"{FILING}:file_away",
                "durable.remove(disk, f'{BATCHES}/{claimed.batch}')",
                "durable.write_file(disk, f'{folder}/{paper_name(name, kind)}', _readable(paper))\n"
                "    durable.remove(disk, f'{BATCHES}/{claimed.batch}')",
            ),
        ),
        within=90,
        climate=FILE_STORM,
        first_seed=3,
    ),
    Mutation(
        "reports are not written",
        "A file lies in rejected/ or failed/, and nobody knows why.",
        (
            Edit(
                f"{FILING}:file_away",
                "durable.write_file(disk, ",
                "kind == 'report' or durable.write_file(disk, ",
            ),
        ),
    ),
    Mutation(
        "a file overwrites an earlier one of its name",
        "The same name dropped again costs the file that bore it first.",
        (Edit(f"{FILING}:_free_name", "owner == claimed.batch or (", "owner is not None or ("),),
    ),
    Mutation(
        "a batch number is given again",
        "Once state/batches/ is empty, numbers begin anew, and the order of learning is lost.",
        (Edit(f"{FILING}:_last_number", "if disk.stat(LAST_NUMBER) is not None:", "if False:"),),
    ),
    Mutation(
        "filing is tried once",
        "A full disk at the wrong moment, and the file stays under state/batches/.",
        (Edit(f"{INBOX}._file", "self._refuse_if_lost(error)\n", "self._to_file.pop(batch)\n"),),
        within=40,
        first_seed=4,
        climate=FULL_DISKS,
    ),
    Mutation(
        "a lost claim is not sent again",
        "The Validator crashed over it twice, and the file waits until the next start.",
        (Edit(f"{INBOX}._strike", "await self._send_on(one)", "await self._forget_taken_back()"),),
        within=100,
        climate=CLAIM_CRASHES,
        days=0.2,
        first_seed=15,
    ),
    Mutation(
        "a claim that was accepted before is not sent again",
        "A restarted Trainer asks for it anew, the Validator loses it, and it waits half trained until the next start.",
        (Edit(f"{INBOX}._strike", "batch in ('', one.batch)", "one.batch not in self._validated"),),
        within=40,
        climate=CLAIM_CRASHES,
        days=0.3,
        first_seed=40,
    ),
    Mutation(
        "bad lines are accepted",
        "What is not fit to train reaches the engine.",
        (Edit("actors.validator.actor:Validator._trouble", "if found.error_count and (", "if False and ("),),
    ),
    # Nights.
    Mutation(
        "the merged model is committed before its delta",
        "A cut between the two leaves yesterday's adapter on a model that has it folded in already.",
        (
            Edit(
                f"{STORE}.commit_night",
                "delta = self._write_delta(",
                "half = msgspec.structs.replace(head.in_force, model_path=model_path)\n"
                "    others = tuple((kept for kept in head.kept if kept.generation != folded))\n"
                "    self.head = self._put_in_force(msgspec.structs.replace(head, kept=(*others, half)), half)\n"
                "    delta = self._write_delta(",
            ),
        ),
        within=80,
        climate=NIGHT_STORM,
        days=0.3,
    ),
    Mutation(
        "a night's delta is missing from the ledger",
        "The next merge leaves a day of learning out.",
        (Edit(f"{STORE}.commit_night", "(*head.ledger, night)", "head.ledger"),),
    ),
    Mutation(
        "the newest adapter is not merged",
        "A day of learning is in the ledger and not in the model.",
        (
            Edit(
                f"{NIGHTS}._merge",
                "(*(delta.path for delta in force.ledger), force.path)",
                "tuple((delta.path for delta in force.ledger))",
            ),
            Edit(
                f"{NIGHTS}._merge",
                "(*(delta.night for delta in force.ledger), night)",
                "tuple((delta.night for delta in force.ledger))",
            ),
        ),
    ),
    Mutation(
        "a night runs while training",
        "The base changes under a batch.",
        (
            Edit(
                f"{TRAINER}.yield_to_night",
                "self._on_device or self._current or self._queue or self._state.cursor or self._failing",
                "self._failing",
            ),
            Edit(
                f"{TRAINER}.yield_to_night",
                "self._commits or self._changes != self._committed_changes",
                "self._failing",
            ),
            Edit(f"{NIGHTS}.consider", "if self._inbox_waits:\n        return\n", "self._inbox_waits = False\n"),
            Edit(f"{NIGHTS}.consider", "or self._inbox_waits or", "or"),
        ),
        within=40,
        days=0.3,
        blind="More nights wanted while a batch is in training than a universe has.",
    ),
    Mutation(
        "a date has any number of nights",
        "A night is owed whenever there is something to fold.",
        (
            Edit(
                "actors.consolidator.actor:owed",
                "(learnt < due or clock_was_far_ahead) and day not in had_nights",
                "learnt",
            ),
        ),
        within=30,
    ),
    Mutation(
        "the adapter keeps its name after a night",
        "The fresh adapter is not a fresh one.",
        (
            Edit(
                f"{TRAINER}.begin_adapter",
                "int(self._state.adapter_id.removeprefix('a')) + 1",
                "int(self._state.adapter_id.removeprefix('a'))",
            ),
        ),
        scenery=(UNCHAINED,),
    ),
    Mutation(
        "a refused night passes for committed",
        "The Trainer goes on with an adapter that is not in force.",
        (
            Edit(f"{TRAINER}.night_closed", "closed.committed and ", ""),
            Edit(
                f"{NIGHTS}.consider",
                "NightClosed(night=night, committed=committed)",
                "NightClosed(night=night, committed=True)",
            ),
        ),
        within=80,
        climate=NIGHT_ERRORS,
        days=1.0,
    ),
    Mutation(
        "the Trainer is not told that a night is over",
        "It waits for ever.",
        (
            Edit(
                f"{NIGHTS}.consider",
                "await self.send(NightClosed(night=night, committed=committed))",
                "self._force = None",
            ),
        ),
        within=81,
        first_seed=28,
    ),
    Mutation(
        "a partial merge is not swept",
        "What a crash left of a night stays, as large as a model.",
        (Edit(f"{NIGHTS}._remove_unneeded", "durable.sweep(self.disk, MODELS)", "return"),),
        within=60,
        climate=NIGHT_STORM,
        days=0.3,
    ),
    Mutation(
        "a model is deleted that a kept generation stands on",
        "Going back to that generation finds no base.",
        (Edit(f"{NIGHTS}._tidy", "{*force.models_needed, force.model_path}", "{force.model_path}"),),
        within=40,
        climate=LONG_NIGHTS,
        days=1.0,
        first_seed=2,
    ),
    Mutation(
        "a merged model is loaded unverified",
        "An adapter is trained on what rotted, or the daemon ends over it, and nobody heals it.",
        (
            Edit(
                "actors.trainer.jobs:DeviceJobs.load",
                "verify_folder(self._disk, force.model_path, force.model_digest)",
                "self._disk.stat(force.model_path)",
            ),
        ),
        within=30,
        climate=MODEL_ROT,
        days=1.0,
        first_seed=7,
    ),
    Mutation(
        "a healed model is swapped in before it is durable beside the old one",
        "A power cut finds neither the damaged model nor the new one.",
        (
            Edit(
                f"{DURABLE}:replace_directory",
                "disk.rename(staged, whole)\n    disk.fsync_dir(parent_of(path))\n    finish_replacing(disk, path)",
                "remove(disk, path)\n    disk.rename(staged, path)\n    disk.fsync_dir(parent_of(path))",
            ),
        ),
        within=60,
        first_seed=15,
        climate=MODEL_ROT_STORM,
        days=1.0,
    ),
    Mutation(
        "the merged models are never read through",
        "What rots is found only by whoever loads it, perhaps when the base has rotted too.",
        (Edit(f"{CARE}.scrub", "if size == 0:", "if size >= 0:"),),
        within=20,
        climate=MODEL_ROT,
        days=2.0,
    ),
    # What people read.
    Mutation(
        "status says training after the stop",
        "Nobody can tell a stopped daemon from one at work.",
        (
            Edit(
                "actors.status_reporter.actor:StatusReporter.on_stop",
                "page.state, page.reason, page.batch = ('stopped', self.system.stop_reason, None)",
                "page.reason = ''",
            ),
        ),
    ),
    Mutation(
        "counts begin at nothing after a restart",
        "Status counts what this life filed and not what is there.",
        (
            Edit(
                "actors.status_reporter.actor:StatusReporter.on_start",
                "self._folder.page.counts = await self.blocking(self._prepare)",
                "await self.blocking(self._prepare)",
            ),
        ),
    ),
    Mutation(
        "failed files are not counted",
        "Status hides what went wrong.",
        (
            Edit(
                "actors.status_reporter.actor:StatusReporter._count",
                "for folder in Counts.__struct_fields__:",
                "for folder in ('trained', 'rejected'):",
            ),
        ),
        within=30,
    ),
    Mutation(
        "the reporter leaves without reading its mail",
        "The last status before a stop does not know what was filed last.",
        (
            Edit(
                "tools.house:house",
                "(TrainingProgress, DiskMeasured, InboxSurveyed)), stop_within=10.0",
                "(TrainingProgress, DiskMeasured, InboxSurveyed)), stop_within=10.0, drain=False",
            ),
        ),
        within=40,
        days=1.0,
        blind="More stops in the second in which a file is filed than a universe has.",
    ),
    # The runtime.
    Mutation(
        "two messages of one sender change places",
        "An actor hears of the later thing first.",
        (
            Edit(
                "runtime.simulation.delivery:SeededDelivery.carry",
                "max(due, self._last.get(pair, 0.0) + _LATER)",
                "due",
            ),
        ),
        within=60,
    ),
    # What has no checker in the first universes.
    Mutation(
        "a snapshot is written without its manifest",
        "The copy of the day cannot be told from a damaged one, and nothing can be restored from it.",
        (
            Edit(
                f"{STORE}.snapshot",
                "durable.copy_files(self._disk, self.head.generation_path)",
                "{name: data for name, data in durable.copy_files(self._disk, self.head.generation_path).items()"
                " if name != MANIFEST}",
            ),
        ),
        within=30,
    ),
    Mutation(
        "current_model stays where it was",
        "People and programs that follow the link load an old model, or none.",
        (Edit(f"{STORE}._show_current", "if found is None or found.kind == 'link':", "if found is None:"),),
        within=30,
    ),
    Mutation(
        "retention forgets the nights",
        "The state before and after a night cannot be put in force again.",
        (Edit(f"{LEARNING}._nights", "if stays:", "if False:"),),
        within=60,
        days=1.0,
    ),
    Mutation(
        "retention keeps everything",
        "The disk fills with generations.",
        (Edit(f"{LEARNING}._generations", "if rank >= most:", "if False:"),),
        within=60,
        days=0.3,
        first_seed=3,
    ),
    Mutation(
        "snapshots are never deleted",
        "The disk fills with snapshots.",
        (Edit(f"{STORE}._prunable", "*(one.path for one in going if one.kind == 'snapshot'), ", ""),),
        within=20,
        days=4.0,
    ),
    Mutation(
        "retention forgets what is pinned",
        "What a person told the house to keep goes with everything else of its age.",
        (Edit(f"{LEARNING}._hold_what_never_goes", "if kept.pinned:", "if False:"),),
        within=80,
        days=0.5,
        first_seed=12,
    ),
    Mutation(
        "a pinned snapshot's model is not needed",
        "What was pinned lies there, and the model that it stands on is gone.",
        (
            Edit(
                "actors.checkpointer.head:Head.models_needed",
                "{one.model_path for one in self.snapshots}",
                "set()",
            ),
        ),
        within=20,
        days=5.0,
        climate=CALM,
        scenery=SNAPSHOTS_PINNED,
        first_seed=1,
    ),
    Mutation(
        "a bound of bytes deletes what is in force",
        "A bound that is too small for one generation costs all learning.",
        (
            Edit(
                f"{STORE}._prunable",
                "return [",
                "return [*(kept.path for kept in (self.head.kept if self.head else ())"
                " if kept.size_bytes > (self._bounds.generations_bytes_max or kept.size_bytes)), ",
            ),
        ),
        within=60,
        days=0.3,
    ),
    Mutation(
        "what the bytes do not allow is deleted before HEAD lets go of it",
        "HEAD names what is gone, should the power fail between the two.",
        (
            Edit(
                f"{STORE}._trimmed",
                "return self._without_condemned",
                "if self._bounds.generations_bytes_max is not None:\n"
                "        for gone in head.kept:\n"
                "            gone in kept.kept or durable.remove(self._disk, gone.path)\n"
                "    return self._without_condemned",
            ),
        ),
        within=60,
        days=0.3,
    ),
    Mutation(
        "what is unpinned is deleted before HEAD lets go of it",
        "HEAD goes on naming what retention has taken.",
        (
            Edit(f"{STORE}.prune", "self._let_go()", "pass"),
            Edit(f"{STORE}._prunable", " and one.path not in reached", ""),
        ),
        within=120,
        days=0.5,
        first_seed=12,
    ),
    Mutation(
        "a pin is answered before it is durable",
        "The person goes away assured, and a power cut takes the pin back.",
        (Edit(f"{STORE}.pin", "self.head = self._put_in_force(new, new.in_force)", "self.head = new"),),
        within=80,
        days=0.5,
    ),
    Mutation(
        "merged models are never deleted",
        "Each night leaves a whole model behind.",
        (Edit(f"{NIGHTS}._remove_unneeded", "if path not in needed:", "if False:"),),
        within=60,
        days=0.3,
        first_seed=15,
    ),
    Mutation(
        "a delete that failed is not tried again",
        "What would not go stays until the next commit or start.",
        (Edit("actors.checkpointer.actor:Checkpointer.retry_deletes", "await self._prune()", "return"),),
        within=80,
        days=1.0,
        climate={"io": 0.02},
        first_seed=3,
    ),
    Mutation(
        "the start loads without looking",
        "A damaged generation is put in force, and nobody is told.",
        (
            Edit(f"{STORE}._sound", "if not broken:", "if not broken or broken:"),
            Edit(f"{STORE}._sound", "for kept in wanted:", "for kept in ():"),
            Edit(f"{STORE}._sound", "return self._recovered(damage, head)", "return head"),
        ),
        blind="Bits that turn, and people who damage files, between two lives.",
        within=40,
    ),
    Mutation(
        "files are claimed newest first",
        "What came first is learnt last.",
        (
            Edit(
                "actors.inbox_watcher.survey:survey",
                "sorted(arrived, key=lambda entry: entry[:2])",
                "sorted(arrived, key=lambda entry: entry[:2], reverse=True)",
            ),
        ),
        within=60,
        days=0.3,
        first_seed=19,
    ),
    Mutation(
        "a pause is not heeded",
        "Training goes on although a person has said to hold.",
        (Edit(f"{TRAINER}.pause", "self._paused = True", "self._told = ''"),),
        within=80,
        days=0.5,
        first_seed=24,
    ),
    Mutation(
        "paused is said before it is committed",
        "A person takes the power away in trust of a word.",
        (Edit(f"{TRAINER}._hold", "if self._changes != self._committed_changes:", "if False:"),),
        within=80,
        days=0.5,
        first_seed=74,
    ),
    Mutation(
        "space is granted that is not there",
        "A batch is begun that the disk cannot hold.",
        (Edit("actors.disk_guard.actor:DiskGuard.grant", "if missing > 0:", "if False:"),),
        within=40,
        days=1.0,
        climate=FULL_FOR_HOURS,
        first_seed=5,
    ),
    Mutation(
        "the reserve is never released",
        "On a full disk neither HEAD nor status can be written, beside megabytes that were kept for them.",
        (
            Edit(
                "actors.checkpointer.actor:Checkpointer._release_reserve",
                "size_bytes = await self.blocking(self._reserve.release)",
                "size_bytes = 0",
            ),
        ),
        within=40,
        days=1.0,
        climate=FULL_FOR_HOURS,
    ),
    Mutation(
        "the reserve is made while the disk is low",
        "What was released for status and HEAD is taken up again at once, and released, and taken up.",
        (
            Edit(
                "actors.checkpointer.actor:Checkpointer._is_granted",
                "isinstance(answer, SpaceGranted)",
                "answer is not None",
            ),
        ),
        within=40,
        days=1.0,
        climate=FULL_FOR_HOURS,
    ),
    Mutation(
        "no night is ever owed",
        "What is learnt is never folded.",
        (Edit("actors.consolidator.actor:owed", "if learning_since is None:", "if True:"),),
        within=60,
        days=1.0,
    ),
    Mutation(
        "a night comes before its hour",
        "The merge begins in the middle of the day.",
        (
            Edit(
                "actors.consolidator.actor:owed",
                "(learnt < due or clock_was_far_ahead) and day not in had_nights",
                "day not in had_nights",
            ),
        ),
        within=40,
        days=1.0,
    ),
    Mutation(
        "a refused night is tried again by the wall clock",
        "A clock set back puts the next try off by as much.",
        (
            Edit(f"{NIGHTS}._refuse", "self.clock.monotonic()", "self.clock.now().timestamp()"),
            Edit(f"{NIGHTS}._lately_refused", "self.clock.monotonic()", "self.clock.now().timestamp()"),
        ),
        blind="Clocks set back between a refusal and the next try, and a checker of how long that took.",
        within=40,
    ),
    Mutation(
        "a merged model that is worse is folded in",
        "What was learnt is rounded away, and the fresh adapter stands on what is left.",
        (
            Edit(
                "actors.consolidator.actor:worse",
                "found is None or found.merged <= found.adapter + tolerance",
                "True",
            ),
        ),
        within=40,
        days=1.0,
    ),
    Mutation(
        "a file that goes on forgets what it held out",
        "What was to measure it is trained, and its cursor counts other steps.",
        (Edit(f"{JOBS}.open_batch", "held_out=plan.held_out", "held_out=0 if resumed else plan.held_out"),),
        within=40,
        days=0.3,
    ),
    Mutation(
        "an event is written twice",
        "The log tells of what did not happen again.",
        (Edit("actors.status_reporter.actor:StatusReporter.write", "self._events.clear()", "del self._events[1:]"),),
        within=30,
    ),
    Mutation(
        "back-pressure is ignored",
        "A fast sender fills the memory with what a slow receiver has not read.",
        (Edit("runtime.hot.mailbox:Mailbox.full", "bool(self.rooms) or not self._has_room", "False"),),
        blind="Small mailboxes, a flood, and a checker of their depth; tests/runtime/test_mailboxes.py sees it.",
        within=40,
    ),
    Mutation(
        "the step in hand at a stop is not waited for",
        "The last steps' counters and weights part.",
        (Edit(f"{TRAINER}.on_stop", "await self.device.join()", "await self.send(BatchesWanted())"),),
        within=40,
        days=1.0,
    ),
    Mutation(
        "the night folds an older generation",
        "What was committed between the first look and the yield is left out of the model.",
        (
            Edit(
                f"{NIGHTS}._night",
                "force = await self.ask(StateWanted(ledger=True, only_look=True), timeout=LOAD_SECONDS)",
                "force = self._force",
            ),
            Edit(f"{NIGHTS}._night", "force.state.global_step != yielded.global_step or ", ""),
            Edit(f"{STORE}.commit_night", "head.generation != folded", "False"),
        ),
        within=40,
        days=0.5,
        blind="A commit between the first look and the yield: nights wanted right after a batch.",
    ),
    Mutation(
        "claims run ahead without bound",
        "The folder is the queue no more.",
        (
            Edit(f"{INBOX}.scan", "len(self._claimed) >= self.settings.claims_max or ", ""),
            Edit(f"{INBOX}._look", "settings.claims_max - len(self._claimed)", "1000"),
        ),
        within=40,
        days=0.3,
        scenery=HEAPS,
        climate=CALM,
    ),
    Mutation(
        "the scrub passes over a file",
        "What has turned in it is found when it is needed, and then it is too late.",
        (Edit(READING, "sorted(manifest.files.items())", "sorted(manifest.files.items())[1:]"),),
        within=40,
        days=0.5,
        climate=ROT,
    ),
    Mutation(
        "the scrub passes over the deltas",
        "A delta that nobody reads until the next night may have lost its last copy by then.",
        (
            Edit(
                "actors.checkpointer.scrub:things_of",
                "*(Thing('delta', delta.path, delta.digest) for delta in needed),",
                "",
            ),
        ),
        within=40,
        days=1.0,
        climate=ROT,
    ),
    Mutation(
        "a healed delta is not verified",
        "The damaged bytes get a new name, and HEAD vouches for them.",
        (
            Edit(f"{HEALER}._bytes_of", "if durable.digest_of_bytes(data) == entry.digest else None", "or None"),
            Edit(f"{HEALER}._exchange", "read_back(self._disk, path, digest)", "path = path"),
        ),
        within=40,
        days=1.0,
        climate=ROT,
    ),
    Mutation(
        "damage is not told",
        "A disk that fails goes on failing, and nobody knows.",
        (Edit(f"{HEALER}._noted", "damage.news and (not known)", "known"),),
        within=40,
        days=0.5,
        climate=ROT,
    ),
    Mutation(
        "nothing vouches for a snapshot's manifest",
        "What has turned in it is taken for what was committed.",
        (
            Edit(
                READING,
                "not seal_holds(raw) or (manifest.cursor is not None and (not has_seal(raw)))",
                "False",
            ),
        ),
        within=40,
        days=0.5,
        climate=ROT,
    ),
)
