"""What protects the nights (rows n1 to n12), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

CHECKPOINTER = "actors/checkpointer/actor.py"
STORE = "actors/checkpointer/store.py"
TRAINER = "actors/trainer/actor.py"
ADAPTER = "actors/trainer/adapter.py"
NIGHTS = "actors/consolidator/actor.py"
MERGE = "actors/consolidator/merge.py"
MERGER = "actors/consolidator/process_merger.py"
CHILD = "actors/consolidator/merge_child.py"
VERIFY = "actors/consolidator/verify.py"
DELTA = "actors/consolidator/adapter_delta.py"

REMOVALS = (
    gone(
        "n1",
        "a night that waited begins as soon as training is idle",
        (NIGHTS, '"""A night that waited may begin."""\n        await self.consider()', '"""Nothing."""'),
        tests="n1_a_night_waits_until_training",
    ),
    gone(
        "n1",
        "a night waits for an empty inbox",
        (NIGHTS, "bool(inbox.waiting_count or inbox.claimed or inbox.unready)", "False"),
        tests="inbox_is_empty",
    ),
    gone(
        "n1",
        "a Trainer that has something in hand does not make way",
        (TRAINER, "        if busy:\n", "        if False:\n"),
        tests="only_an_idle",
    ),
    gone(
        "n2 n6",
        "a start sweeps what interrupted nights left",
        (NIGHTS, "await self.blocking(lambda: self._remove_unneeded(needed))", "return"),
        tests="n2_a_crash n6_a_start n2_n6",
    ),
    gone(
        "n2",
        "a night that crashed lets the Trainer go",
        (NIGHTS, '        await self.send(NightClosed(night="", committed=False))\n', ""),
        (NIGHTS, "        finally:\n", "        except ZeroDivisionError:\n            raise\n        else:\n"),
        tests="n2_a_crash",
    ),
    gone(
        "n2",
        "the merging child dies with its parent",
        (CHILD, "signal.SIGKILL, 0, 0, 0) == 0", "0, 0, 0, 0) == 0"),
        tests="n2_the",
    ),
    gone(
        "n3",
        "a committed night is told to all",
        (CHECKPOINTER, "await self.send(committed)\n        return committed", "return committed"),
        tests="told_to_all",
    ),
    gone(
        "n3",
        "an adapter is compared with its manifest before it is folded",
        (
            STORE,
            "manifest = verify(self._disk, source.path, source.manifest)",
            'manifest = decode(self._disk.read(f"{source.path}/{MANIFEST}"), Manifest, "")',
        ),
        tests="n3_a_damaged",
    ),
    gone(
        "n3",
        "an adapter stays until the merged model is committed",
        (
            STORE,
            "        delta = self._write_delta(head",
            "        durable.remove(self._disk, head.in_force.path)\n        delta = self._write_delta(head",
        ),
        tests="b2_n3 told_to_all",
    ),
    gone(
        "n3",
        "a fresh adapter counts its own steps",
        (TRAINER, "            adapter_step=0,\n", ""),
        tests="n3_after",
    ),
    gone(
        "n4",
        "a disk that refuses HEAD is an answer",
        (CHECKPOINTER, "except (OSError, Damaged) as error:", "except Damaged as error:"),
        tests="n4_a_night_that",
    ),
    gone(
        "n4",
        "only what is in force is folded",
        (STORE, "if head is None or head.generation != folded:", "if head is None:"),
        tests="n4_a_night_that",
    ),
    gone(
        "n4",
        "a merged model that is not committed is removed",
        (NIGHTS, "await self._tidy()  # of", "pass  # of"),
        tests="n4_head",
    ),
    gone(
        "n4",
        "a night goes on over a commit that has no answer",
        (NIGHTS, "except AskFailed as error:", "except ZeroDivisionError as error:"),
        tests="n4_a_commit",
    ),
    gone(
        "n4",
        "the fresh adapter is believed only once it is committed",
        (TRAINER, "if closed.committed and state is not None and state.base == closed.night:", "if state is not None:"),
        tests="n4_the_trainer",
    ),
    gone(
        "n5",
        "a night asks for the space it needs",
        (NIGHTS, "if not isinstance(space, SpaceGranted):", "if False:"),
        tests="would_not_fit",
    ),
    gone(
        "n5",
        "a disk that fills in the merge is a refusal in words",
        (CHILD, "except OSError as error:", "except ZeroDivisionError as error:"),
        tests="n5_a_disk",
    ),
    gone(
        "n6 n7",
        "what a stopped merge wrote is removed",
        (MERGER, "if not isinstance(result, MergeDone):", "if False:"),
        tests="n6_cancelling n7_time_out",
    ),
    gone(
        "n6",
        "a Trainer that restarted since it made way begins no adapter",
        (TRAINER, "if wish.night != self._night:", "if False:"),
        tests="n6_a_trainer",
    ),
    gone(
        "n6 n7",
        "a merge is killed with its children",
        (MERGER, "os.killpg(process.pid", "os.kill(process.pid"),
        tests="n6_cancelling n7_time_out n7_children",
    ),
    gone(
        "n7 n10",
        "a refused night is tried again later and not at once",
        (NIGHTS, "return self.clock.monotonic() - self._refused_at <", "return False and self._refused_at <"),
        tests="n7_n10",
    ),
    gone(
        "n8",
        "a date has one night",
        (NIGHTS, "return day if (learnt < due or clock_was_far_ahead) and day not in had_nights else", "return day or"),
        tests="n8_one n8_daylight",
    ),
    gone(
        "n8",
        "a missed hour is made up for",
        (NIGHTS, "day = due.date().isoformat()", 'day = due.date().isoformat() if now.hour == at.hour else ""'),
        tests="n8_a_daemon",
    ),
    gone(
        "n9",
        "nothing learnt is nothing owed",
        (
            NIGHTS,
            'if learning_since is None:\n        return ""',
            'if learning_since is None:\n        learning_since = "2000-01-01"',
        ),
        tests="n9_nothing_learnt_no_night",
    ),
    gone(
        "n10",
        "every byte of a merged model is compared with the formula",
        (VERIFY, "if not torch.equal(formula, there):", "if False:"),
        tests="single_flipped_bit",
    ),
    gone(
        "n10",
        "rows of a merged model are computed by other code, too",
        (VERIFY, "if bool(((after - exact).abs() > slack).any()):", "if False:"),
        tests="does_not_repeat",
    ),
    gone(
        "n10",
        "a merged model must answer as base and adapter do",
        (VERIFY, "if check.relative > tolerance or check.agreement < AGREEMENT_MIN:", "if False:"),
        tests="answers_are_those",
    ),
    gone(
        "n10",
        "a merged model must have all its weights",
        (VERIFY, "if merged_gaps != gaps:", "if False:"),
        tests="lacks_weights",
    ),
    gone(
        "n11",
        "what is accepted in a night waits for its end",
        (
            TRAINER,
            "if self._on_device or self._night or self._backing_off or",
            "if self._on_device or self._backing_off or",
        ),
        tests="n11_a_batch",
    ),
    gone(
        "n11",
        "all are told what became of a night",
        (
            NIGHTS,
            "committed = await self._night(night, due, answer.state)",
            "await self._night(night, due, answer.state)",
        ),
        tests="n11_a_file",
    ),
    gone(
        "n12",
        "a merge refuses embeddings and heads",
        (DELTA, 'if module.rpartition(".")[2] in EMBEDDINGS_AND_HEADS:', "if False:"),
        tests="n12_refuses",
    ),
    gone(
        "n12",
        "no adapter is begun on embeddings or head",
        (ADAPTER, "        if config is None:\n", "        if False:\n"),
        tests="n12_an_adapter n12_a_home",
    ),
    gone(
        "n12 n10",
        "each delta is scaled as it was trained",
        (MERGE, "            target.mul_(scaling)\n", ""),
        tests="n12_on_a_tied n10_answers",
    ),
)
