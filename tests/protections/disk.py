"""What protects from the disk (rows d1 to d6), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

CHECKPOINTER = "actors/checkpointer/actor.py"
DURABLE = "runtime/durable.py"
TRAINER = "actors/trainer/actor.py"
NIGHTS = "actors/consolidator/actor.py"
WATCHER = "actors/inbox_watcher/actor.py"
FILING = "actors/inbox_watcher/filing.py"
REPORTER = "actors/status_reporter/actor.py"
STORE = "actors/checkpointer/store.py"
SUBMIT = "tools/commands/submit.py"
FORGETS_EVENTS = "            self._events.clear()\n"
WRITES_THE_TRACE = """\
            # The rest of a full disk is for the status itself.
            if self._recording and not self._folder.page.disk.low:
                await self._write_trace()
"""
REFUSED_IS_RAISED = """        disk.rename(temporary, path)
    except OSError:
        _discard(disk, temporary)
        raise
    disk.fsync_dir(parent_of(path))


def write_pieces"""

REMOVALS = (
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
        "a status that cannot be written is written later",
        (
            REPORTER,
            "except OSError:\n            return\n        self._changed",
            "except ZeroDivisionError:\n            return\n        self._changed",
        ),
        tests="that_refuses_costs",
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
        "a link that is refused fails no commit",
        (STORE, "with contextlib.suppress(OSError):\n            self._show", "if True:\n            self._show"),
        tests="d5_a_link",
    ),
    gone(
        "d5",
        "retention shows what is in force",
        (STORE, "        self._show_current_or_later()\n        for path", "        for path"),
        tests="d5_a_link",
    ),
    gone(
        "d5",
        "whoever goes back again is shown it, too",
        (STORE, "self._show_current()  # whoever", "# whoever"),
        tests="d5_who_went_back",
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
