"""What protects actors from one another (rows a1 to a4), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

RUNNER = "runtime/child_runner.py"
CELL = "runtime/cell.py"
SUPERVISOR = "runtime/supervisor.py"
PLUGINS = "runtime/plugins.py"
WATCHER = "actors/inbox_watcher/actor.py"
TRAINER = "actors/trainer/actor.py"

REMOVALS = (
    gone(
        "a1",
        "the message over which an actor crashed comes once more",
        (
            RUNNER,
            "            envelope.attempt += 1\n",
            "            envelope.attempt += 1\n            self.cell.mailbox.acknowledge()\n",
        ),
        tests="a1_a_crash_over_an a1_a_crash_over_a_file",
    ),
    gone(
        "a1",
        "a message that crashed its actor again is a dead letter",
        (RUNNER, "            self.system.dead_letter(self.cell, envelope, crash.why)\n", ""),
        tests="kills_its_reader a1_a_crash_over_a_file a1_the",
    ),
    gone(
        "a1",
        "after a crash the engine is loaded anew from what is in force",
        (
            TRAINER,
            "        await self.send(BatchesWanted())\n        await self._advance()",
            "        await self._advance()",
        ),
        tests="a1_a_crash_over_any a1_a_crash_of",
    ),
    gone(
        "a1",
        "a lost commit is asked for again",
        (
            TRAINER,
            "if self._commits and (dead.actor, dead.message_type)",
            "if False and (dead.actor, dead.message_type)",
        ),
        (TRAINER, "overdue = self.clock.monotonic() - self._commit_asked_at > ASK_SECONDS", "overdue = False"),
        tests="a1_the",
    ),
    gone(
        "a2",
        "patience with an actor ends",
        (
            SUPERVISOR,
            "if crash is not None and (crash.for_a_person is not None or runner.exhausted()):",
            "if crash is not None and crash.for_a_person is not None:",
        ),
        tests="a2_",
    ),
    gone(
        "a3",
        "a plug-in's dead letter is no fault of the file's",
        (WATCHER, " and dead.actor == VALIDATOR:", ":"),
        tests="a3_a_plug_in",
    ),
    gone(
        "a3",
        "a plug-in that keeps crashing is switched off and nobody else",
        (
            SUPERVISOR,
            '                runner.settle("disabled", why)\n                return None',
            '                runner.settle("disabled", why)',
        ),
        tests="a3_a_plugin_that_raises",
    ),
    gone(
        "a3",
        "a plug-in that is not there is a mistake in words",
        (PLUGINS, "    except LOAD_ERRORS as error:\n", "    except ZeroDivisionError as error:\n"),
        tests="a3_a_plugin_that_is",
    ),
    gone(
        "a4",
        "a file is trained once however often it is announced",
        (TRAINER, "elif self._current is None or self._current.batch != batch.batch:", "else:"),
        (TRAINER, "if batch.batch not in committed and await self._is_there(batch.path):", "if True:"),
        tests="a4_the",
    ),
    gone(
        "a4",
        "a file that is committed is announced again and not trained",
        (
            TRAINER,
            "known = next((one for one in self._state.unfiled if one.batch == batch.batch), None)",
            "known = None",
        ),
        tests="a4_a_trained",
    ),
)
