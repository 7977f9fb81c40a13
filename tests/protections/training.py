"""What protects training (rows t1 to t10), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

TRAINER = "actors/trainer/actor.py"
JOBS = "actors/trainer/jobs.py"
TORCH = "actors/trainer/torch_engine.py"
BUFFERS = "actors/trainer/host_buffers.py"
BASE = "actors/trainer/base_model.py"
DEVICE = "actors/trainer/device_limits.py"
DAEMON = "tools/daemon.py"
SYSTEM = "runtime/system.py"
HOME = "tools/commands/home.py"
RETRY = "tools/commands/retry.py"
ASKS_FOR_A_COMMIT = "self._commits.append(_Commit(request, self._changes, outcome))\n"
COMMITS_FIRST = """if self._changes != self._committed_changes:
            self._start(lambda: self._jobs.snapshot(self._state))
        elif self._told != "paused":"""

REMOVALS = (
    gone(
        "t1",
        "a file goes on at its cursor",
        (JOBS, "cursor = state.cursor\n", "cursor = state.cursor and replace(state.cursor, step=0)\n"),
        tests="t1_power t1_killed t1_a_batch",
    ),
    gone(
        "t1",
        "what a file began with is measured once",
        (JOBS, "cursor.loss_before if resumed else self._engine.evaluate()", "self._engine.evaluate()"),
        tests="t1_a_batch",
    ),
    gone(
        "t1 r1",
        "a commit remembers whose file is not filed yet",
        (JOBS, "cursor=None, unfiled=(*state.unfiled, trained))", "cursor=None)"),
        tests="t1_r1 r1_an_outcome",
    ),
    gone(
        "t2",
        "who the status says lives is looked for",
        (
            HOME,
            '            status["state"] = "crashed"\n            status["reason"] = f"pid',
            '            status["reason"] = f"pid',
        ),
        tests="t2_",
    ),
    gone(
        "t3",
        "a failure says how much of its file is kept",
        (TRAINER, "            self._failing = self._with_steps_kept(self._failing)\n", ""),
        tests="t3_a_batch",
    ),
    gone(
        "t3",
        "an outcome is announced once it is committed and not before",
        (TRAINER, "            await self.send(commit.outcome)\n", ""),
        (
            TRAINER,
            ASKS_FOR_A_COMMIT,
            ASKS_FOR_A_COMMIT + "        if outcome is not None:\n            await self.send(outcome)\n",
        ),
        tests="t3_a_failure",
    ),
    gone(
        "t3",
        "a report goes when its file is tried again",
        (RETRY, "            _report(path).unlink(missing_ok=True)\n", ""),
        tests="t3_a_file t3_retry",
    ),
    gone(
        "t4",
        "want of memory is told from other errors",
        (DEVICE, "return isinstance(error, torch.OutOfMemoryError) or any(", "return False and any("),
        tests="t4_out",
    ),
    gone(
        "t4",
        "pieces of a step are told once",
        (JOBS, "warnings = warnings if told in warnings else (*warnings, told)", "warnings = (*warnings, told)"),
        tests="t4_pieces",
    ),
    gone(
        "t5",
        "an error of the disk may pass",
        (JOBS, "why=str(error), transient=True)", "why=str(error), transient=False)"),
        tests="t5_trouble t5_a_transient",
    ),
    gone("t5", "a failing device may recover", (DEVICE, "transient=True)", "transient=False)"), tests="t5_a_failing"),
    gone("t5", "waits double", (TRAINER, " * 2.0 ** (attempts - 1)", ""), tests="t5_waits"),
    gone(
        "t5",
        "patience begins anew with every commit",
        (TRAINER, "self._attempts.clear()  #", "pass  #"),
        tests="t5_patience",
    ),
    gone(
        "t6",
        "a step that is not finite moves the cursor alone",
        (JOBS, "if step.skipped:\n            self._skips_in_a_row", "if False:\n            self._skips_in_a_row"),
        tests="t6_a_skipped t6_three t6_a_step_that_is_not_finite_is_skipped",
    ),
    gone(
        "t6",
        "a good step begins the count anew",
        (JOBS, "self._skips_in_a_row = 0\n        warnings", "warnings"),
        tests="t6_counting_begins",
    ),
    gone(
        "t6",
        "a file begins the count anew",
        (JOBS, "self._skips_in_a_row = 0\n        cursor", "cursor"),
        tests="t6_counting_goes",
    ),
    gone(
        "t6",
        "a gradient that is not finite is not applied",
        (TORCH, "        if finite:\n", "        if True:\n"),
        tests="changes_no_weight",
    ),
    gone(
        "t6",
        "a number that is not finite is not saved",
        (BUFFERS, "            file.check()\n", "            pass\n"),
        tests="never_saved",
    ),
    gone(
        "t7",
        "a stop commits what was learnt since the last commit",
        (TRAINER, "            await self._commit_finally(state)\n", "            pass\n"),
        tests="t7_stop_at",
    ),
    gone(
        "t7",
        "a stop with nothing new commits nothing",
        (TRAINER, "if unchanged and not self._commits:", "if False:"),
        tests="t7_a_stop_with",
    ),
    gone(
        "t7",
        "a stop in a night commits nothing of it",
        (TRAINER, "if self._loaded and state is not None and not self._night:", "if state is not None:"),
        tests="t7_a_stop_in",
    ),
    gone(
        "t7",
        "a signal is a wish",
        (
            DAEMON,
            "            loop.add_signal_handler(wish, system.stop, signal.Signals(wish).name)\n",
            "            pass\n",
        ),
        tests="t7_stopped",
    ),
    gone(
        "t8",
        "the flag is read between steps",
        (JOBS, " and not self._interrupted():", ":"),
        tests="t8_the_flag t8_pause_takes",
    ),
    gone(
        "t8",
        "paused is said once all is committed",
        (
            TRAINER,
            COMMITS_FIRST,
            'if False:\n            pass\n        elif self._told != "paused":',
        ),
        tests="t8_pause_and t8_paused",
    ),
    gone(
        "t8",
        "nothing is begun while a pause holds",
        (TRAINER, "        elif self._paused:\n            await self._hold()\n", ""),
        tests="t8_pause_before",
    ),
    gone(
        "t8",
        "who begins anew is told of a pause",
        (TRAINER, "if other.incarnation > 1 and self._paused:", "if False:"),
        tests="begins_anew_during",
    ),
    gone(
        "t9",
        "a job that hangs is looked for",
        (SYSTEM, "        if seconds > self._stuck_after and self._is_news(", "        if False and self._is_news("),
        tests="t9_",
    ),
    gone(
        "t10",
        "the jobs compare the base with the one the home began with",
        (JOBS, "if state.base_fingerprint and state.base_fingerprint != info.fingerprint:", "if False:"),
        tests="t10_another_base_is_refused_with",
    ),
    gone(
        "t10",
        "the engine compares the base with the one the home began with",
        (TORCH, "if state.base_fingerprint and state.base_fingerprint != fingerprint:", "if False:"),
        tests="test_t10_another_base_is_refused",
    ),
    gone(
        "t10",
        "the base is compared with the one the home began with at all",
        (JOBS, "if state.base_fingerprint and state.base_fingerprint != info.fingerprint:", "if False:"),
        (TORCH, "if state.base_fingerprint and state.base_fingerprint != fingerprint:", "if False:"),
        tests="another_base_model",
    ),
    gone(
        "t10",
        "a fingerprint looks into the weights",
        (BASE, "digest.update(file.read(BLOCK_BYTES))", "file.read(BLOCK_BYTES)"),
        tests="fingerprint_sees",
    ),
    gone(
        "t10",
        "a base that is another is for a person to mend",
        (TRAINER, "code = EXIT_GAVE_UP if trouble.transient else EXIT_CONFIG", "code = EXIT_GAVE_UP"),
        tests="t10_another_base_ends",
    ),
    gone(
        "t10",
        "a base that cannot be read may come back",
        (TRAINER, "code = EXIT_GAVE_UP if trouble.transient else EXIT_CONFIG", "code = EXIT_CONFIG"),
        tests="t10_a_base",
    ),
)
