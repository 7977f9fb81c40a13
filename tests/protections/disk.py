"""What protects from the disk (rows d1 to d6), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

STORE = "actors/checkpointer/store.py"
CHECKPOINTER = "actors/checkpointer/actor.py"
DURABLE = "runtime/durable.py"
GUARD = "actors/disk_guard.py"
TRAINER = "actors/trainer/actor.py"
NIGHTS = "actors/consolidator/actor.py"
WATCHER = "actors/inbox_watcher/actor.py"
FILING = "actors/inbox_watcher/filing.py"
REPORTER = "actors/status_reporter/actor.py"
SUBMIT = "tools/commands/submit.py"
FORGETS_EVENTS = "            self._events.clear()\n"
WRITES_THE_TRACE = "            if self._recording:\n                await self._write_trace()\n"
REFUSED_IS_RAISED = """        disk.rename(temporary, path)
    except OSError:
        _discard(disk, temporary)
        raise
    disk.fsync_dir(parent_of(path))


def write_directory"""

REMOVALS = (
    gone(
        "d1",
        "the reserve is never granted",
        (GUARD, "need + self.settings.free_bytes_min - free", "need - free"),
        tests="d1_the",
    ),
    gone(
        "d1",
        "what was written last is the next forecast",
        (GUARD, "        self._generation_bytes = done.size_bytes\n", "        pass\n"),
        tests="d1_a_batch_is",
    ),
    gone(
        "d1",
        "a file needs room for two generations",
        (GUARD, "GENERATIONS_AHEAD = 2", "GENERATIONS_AHEAD = 1"),
        tests="d1_a_file",
    ),
    gone(
        "d1",
        "a file is begun only where there is room",
        (TRAINER, "if not isinstance(answer, SpaceGranted):", "if False:"),
        tests="d1_a_batch_that",
    ),
    gone(
        "d2",
        "a day has one snapshot",
        (STORE, "if self.head is None or self._disk.stat(path) is not None:", "if self.head is None:"),
        tests="d2_one d2_counts",
    ),
    gone(
        "d2",
        "the newest so many generations are kept and no more",
        (STORE, "if kept.pinned or kept.generation in stays", "if kept"),
        tests="d2_counts d2_only",
    ),
    gone(
        "d2",
        "what is in force is kept",
        (STORE, "{newest.generation, head.generation}", "{newest.generation}"),
        tests="d2_in_force",
    ),
    gone(
        "d2",
        "the generations of nights are kept",
        (STORE, "stays = recent | of_nights |", "stays = recent |"),
        tests="d2_the_generations",
    ),
    gone(
        "d2",
        "the log of events is set aside at its size",
        (
            REPORTER,
            "if found is not None and found.size > self.settings.events_bytes_max",
            "if found is not None and False",
        ),
        tests="d2_events",
    ),
    gone(
        "d3",
        "a disk that runs low brings retention forward",
        (
            CHECKPOINTER,
            '"""Retention now instead of at the next commit."""\n        await self._prune()',
            '"""Nothing."""',
        ),
        tests="d3_running",
    ),
    gone(
        "d3",
        "a status that cannot be written is written later",
        (
            REPORTER,
            "except OSError:\n            return\n        self._changed",
            "except ZeroDivisionError:\n            return\n        self._changed",
        ),
        tests="d3_a_disk_that_refuses",
    ),
    gone(
        "d3",
        "a line that was taken in part is gone on with where it stopped",
        (REPORTER, "            self._events = [events[taken:]]\n", ""),
        tests="tears_no_line",
    ),
    gone(
        "d3",
        "a full disk does not keep the status from starting",
        (
            REPORTER,
            "with contextlib.suppress(OSError):  # a full",
            "with contextlib.suppress(ZeroDivisionError):  # a full",
        ),
        tests="from_starting",
    ),
    gone(
        "d3",
        "events that are written are forgotten before the trace is tried",
        (
            REPORTER,
            FORGETS_EVENTS + WRITES_THE_TRACE,
            WRITES_THE_TRACE + FORGETS_EVENTS,
        ),
        tests="doubles_no_event",
    ),
    gone(
        "d3",
        "an alarm ends a quarter above",
        (GUARD, "RECOVERED_AT = 1.25", "RECOVERED_AT = 1.0"),
        tests="d3_the_alarm",
    ),
    gone(
        "d3",
        "a start measures at once",
        (
            GUARD,
            "self._told: DiskMeasured | None = None\n        await self.measure()",
            "self._told: DiskMeasured | None = None",
        ),
        tests="low_at_the_start",
    ),
    gone(
        "d3",
        "training holds while a commit is refused",
        (
            TRAINER,
            "elif self._commit_refused or any(commit.outcome for commit in self._commits):",
            "elif any(commit.outcome for commit in self._commits):",
        ),
        tests="d3_a_refused",
    ),
    gone(
        "d3",
        "room is used as soon as it is there",
        (TRAINER, '"""There is room again."""\n        await self.look_again()', '"""Nothing."""'),
        tests="d3_room",
    ),
    gone(
        "d3 d5",
        "a disk that refuses a commit is news and no crash",
        (
            CHECKPOINTER,
            "except OSError as error:\n            return CommitFailed",
            "except ZeroDivisionError as error:\n            return CommitFailed",
        ),
        tests="d3_a_disk_that_fills d5_a_refused",
    ),
    gone(
        "d4 b3",
        "a folder gets a hidden name before it is deleted",
        (DURABLE, "if not is_leftover(posixpath.basename(path)):", "if False:"),
        tests="d4_ b3_a_generation",
    ),
    gone(
        "d5",
        "a write that is refused is not taken for done",
        (
            DURABLE,
            REFUSED_IS_RAISED,
            REFUSED_IS_RAISED.replace("raise", "return"),
        ),
        tests="d5_the_same_store d5_refused",
    ),
    gone(
        "d5",
        "a start that cannot delete goes on",
        (
            NIGHTS,
            "except OSError:\n            return  # a delete",
            "except ZeroDivisionError:\n            return  # a delete",
        ),
        tests="d5_a_start",
    ),
    gone(
        "d5",
        "a paper of the same file marks an earlier try",
        (FILING, "if owner == claimed.batch or (", "if ("),
        tests="d5_a_disk_that_refuses_at_every_operation_of_filing",
    ),
    gone(
        "d5",
        "a filing that was refused is tried again",
        (
            WATCHER,
            "            return  # the next scan tries again",
            "            self._to_file.pop(batch)\n            return",
        ),
        tests="d5_filing",
    ),
    gone(
        "d5",
        "a claim that was refused is looked for again",
        (WATCHER, "            self._claim_unsure = True\n", ""),
        tests="d5_a_claim",
    ),
    gone(
        "d5",
        "a folder that was refused is made by a later write",
        (REPORTER, "if self.disk.stat(FOLDER) is None:  #", "if False:  #"),
        tests="d5_a_folder",
    ),
    gone(
        "d5",
        "a copy that fails is removed",
        (
            SUBMIT,
            "            with contextlib.suppress(OSError):\n                part.unlink()\n            raise\n",
            "            raise\n",
        ),
        tests="d5_a_copy",
    ),
    gone(
        "d6",
        "a home that cannot be written ends the Checkpointer in words",
        (CHECKPOINTER, "if error.errno in (errno.EROFS, errno.ENOENT, errno.ENOTDIR):", "if False:"),
        tests="d6_a_home",
    ),
    gone(
        "d6",
        "a home that cannot be written ends the InboxWatcher in words",
        (WATCHER, "if error.errno == errno.EROFS or (", "if False and ("),
        tests="d6_a_disk",
    ),
)
