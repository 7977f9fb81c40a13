"""The status page, folded from messages: its fields, its states, and that nothing sticks."""

from __future__ import annotations

import msgspec
import pytest

from actors.status_reporter.page import BatchLine, DisabledLine, DiskLine, ErrorLine, Folder, Page
from messages import (
    ActorCrashed,
    ActorGaveUp,
    ActorStuck,
    BatchAccepted,
    BatchClaimed,
    BatchFailed,
    BatchFiled,
    BatchRejected,
    BatchStarted,
    BatchTrained,
    CommitFailed,
    DamageFound,
    DiskMeasured,
    FileWithdrawn,
    GenerationCommitted,
    HeldOutLoss,
    InboxSurveyed,
    Message,
    MessagesDropped,
    NightClosed,
    NightCommitted,
    NightFinished,
    NightRefused,
    NightStarted,
    NightVerified,
    PluginNoted,
    Receipt,
    Report,
    RetentionApplied,
    ScrubFinished,
    TrainerReady,
    TrainingIdle,
    TrainingPaused,
    TrainingProgress,
    TrainingResumed,
    TrainingWaits,
    Trouble,
)

WHEN = "2026-01-05T03:00:00+00:00"
READY = TrainerReady(
    device="cpu",
    dtype="float32",
    model="tiny",
    parameters=10,
    trainable=2,
    generation=5,
    global_step=40,
    adapter_id="a0002",
    adapter_step=4,
    base="20260104T030000",
)
CLAIMED = BatchClaimed(batch="000007", name="a.jsonl", path="state/batches/000007/a.jsonl", size_bytes=9)
ACCEPTED = BatchAccepted(
    batch="000007", name="a.jsonl", path=CLAIMED.path, digest="d", size_bytes=9, examples=3
)  # fmt: skip
STARTED = BatchStarted(batch="000007", name="a.jsonl", step=0, steps=10, examples=3, tokens=99)
PROGRESS = TrainingProgress(
    batch="000007",
    name="a.jsonl",
    step=4,
    steps=10,
    global_step=44,
    adapter_step=8,
    loss=1.5,
    learning_rate=2e-4,
    grad_norm=0.5,
    tokens_per_second=123.4,
    eta_s=6.5,
)
COMMITTED = GenerationCommitted(
    ticket="snapshot-1",
    generation=6,
    path="state/generations/000006",
    why="interval",
    global_step=44,
    adapter_id="a0002",
    adapter_step=8,
    size_bytes=1000,
    seconds=0.1,
)
RECEIPT = Receipt("000007", "a.jsonl", "d", 3, 2, 10, 41, 50, "a0002", 90, 9, 0, 2.0, 1.0, 5.0)
TRAINED = BatchTrained(batch="000007", name="a.jsonl", receipt=RECEIPT)
REPORT = Report(batch="000007", name="a.jsonl", trouble=Trouble("NF-DATA-001", "2 of 3 lines", "mend them"))
REJECTED = BatchRejected(batch="000007", name="a.jsonl", path=CLAIMED.path, report=REPORT)
FAILED = BatchFailed(batch="000007", name="a.jsonl", report=REPORT)
FILED = BatchFiled(batch="000007", name="a.jsonl", folder="trained", path="trained/a.jsonl")
IDLE = TrainingIdle(global_step=50)


def folded(*said: Message) -> Page:
    folder = Folder(Page())
    for message in said:
        folder.fold(message, WHEN)
    return folder.page


def state(*said: Message) -> tuple[str, str]:
    page = folded(*said)
    return page.state, page.reason


def survey(**given: tuple[str, ...]) -> InboxSurveyed:
    names = {"waiting": (), "unready": (), "ignored": (), "claimed": (), **given}
    return InboxSurveyed(waiting_count=len(names["waiting"]), **names)


def test_the_page_has_every_documented_field() -> None:
    page = msgspec.to_builtins(folded(READY, STARTED, PROGRESS, REJECTED))
    documented = {
        "state", "pid", "global_step", "adapter_id", "adapter_step", "generation", "base_model", "queue", "batch",
        "disk", "last_error", "counts", "last_consolidation", "heartbeat",
    }  # fmt: skip
    assert documented <= page.keys()
    assert {"name", "step", "steps", "loss", "tokens_per_second", "eta_s"} <= page["batch"].keys()
    assert {"free_bytes", "needed_bytes", "ok"} <= page["disk"].keys()
    assert {"code", "message", "hint"} <= page["last_error"].keys()
    assert page["counts"].keys() == {"trained", "rejected", "failed"}


# States.


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param((), ("idle", "starting"), id="nothing was said"),
        pytest.param((survey(),), ("idle", "the model is being loaded"), id="loading"),
        pytest.param((READY,), ("idle", ""), id="ready"),
        pytest.param((READY, CLAIMED), ("validating", "a.jsonl"), id="validating"),
        pytest.param((READY, CLAIMED, ACCEPTED), ("idle", ""), id="accepted"),
        pytest.param((READY, CLAIMED, REJECTED), ("idle", ""), id="rejected"),
        pytest.param((READY, CLAIMED, ACCEPTED, STARTED), ("training", "a.jsonl"), id="training"),
        pytest.param((READY, STARTED, PROGRESS), ("training", "a.jsonl"), id="getting on"),
        pytest.param((READY, STARTED, CLAIMED), ("training", "a.jsonl"), id="training comes before validating"),
        pytest.param((READY, STARTED, TRAINED), ("idle", ""), id="trained"),
        pytest.param((READY, STARTED, FAILED), ("idle", ""), id="failed"),
        pytest.param((READY, TrainingPaused(global_step=1)), ("paused", "until: nightfold resume"), id="paused"),
        pytest.param(
            (READY, STARTED, TrainingPaused(global_step=1)), ("paused", "until: nightfold resume"), id="paused in it"
        ),
        pytest.param(
            (READY, STARTED, TrainingPaused(global_step=1), TrainingResumed()), ("training", "a.jsonl"), id="resumed"
        ),
        pytest.param(
            (READY, NightStarted(night="n1", due_date="", deltas=1)), ("consolidating", "night n1"), id="a night"
        ),
        pytest.param(
            (READY, NightStarted(night="n1", due_date="", deltas=1), NightClosed(night="n1", committed=False)),
            ("idle", ""),
            id="a night closed",
        ),
        pytest.param(
            (READY, TrainingWaits(name="a.jsonl", why="free disk space", missing_bytes=77)),
            ("idle", "waits for free disk space (77 bytes missing)"),
            id="d1 waits for space",
        ),
        pytest.param(
            (READY, STARTED, TrainingWaits(name="a.jsonl", why="a commit (NF-DISK-001: full)")),
            ("training", "waits for a commit (NF-DISK-001: full)"),
            id="d3 waits for a commit",
        ),
    ],
)  # fmt: skip
def test_the_state_and_its_reason(said: tuple[Message, ...], expected: tuple[str, str]) -> None:
    assert state(*said) == expected


def test_a_trainer_that_begins_anew_has_let_go_of_its_batch() -> None:
    assert state(READY, ACCEPTED, STARTED, PROGRESS) == ("training", "a.jsonl")
    assert state(READY, STARTED, PROGRESS, READY) == ("idle", "")
    assert folded(READY, STARTED, PROGRESS, READY).batch is None
    assert state(READY, STARTED, PROGRESS, READY, STARTED) == ("training", "a.jsonl")


@pytest.mark.parametrize("end", [STARTED, COMMITTED, IDLE])
def test_d1_waiting_ends_with_the_next_good_news(end: Message) -> None:
    waits = TrainingWaits(name="a.jsonl", why="free disk space", missing_bytes=77)
    assert "waits" not in state(READY, waits, end)[1]


def test_a_claim_that_was_sent_again_after_its_outcome_does_not_stay_validating() -> None:
    """After a restart of the Trainer all claims are sent again; of one that is filed meanwhile nobody says more."""
    assert state(READY, CLAIMED, ACCEPTED, STARTED, TRAINED, CLAIMED, FILED) == ("idle", "")


def test_f9_a_claimed_file_that_somebody_took_does_not_stay_validating() -> None:
    assert state(READY, CLAIMED, FileWithdrawn(name="a.jsonl")) == ("idle", "")


def test_a_batch_that_was_dropped_does_not_stay_in_training() -> None:
    page = folded(READY, STARTED, PROGRESS, READY, IDLE)
    assert (page.batch, page.state) == (None, "idle")


def test_another_batchs_outcome_does_not_end_the_one_in_training() -> None:
    late = msgspec.structs.replace(TRAINED, batch="000006")
    assert state(READY, STARTED, late) == ("training", "a.jsonl")


# Fields.


def test_the_trainer_says_what_is_in_force() -> None:
    page = folded(READY)
    assert (page.global_step, page.adapter_id, page.adapter_step, page.generation) == (40, "a0002", 4, 5)
    assert (page.base_model, page.base, page.device) == ("tiny", "20260104T030000", "cpu")
    assert page.last_consolidation == "20260104T030000"


def test_progress_fills_the_batch() -> None:
    page = folded(READY, STARTED, PROGRESS)
    assert page.batch == BatchLine("a.jsonl", "000007", 4, 10, 1.5, 123.4, 6.5, 2e-4)
    assert (page.global_step, page.adapter_step) == (44, 8)
    kept = folded(READY, STARTED, PROGRESS, msgspec.structs.replace(PROGRESS, step=5, loss=None))
    assert kept.batch is not None
    assert (kept.batch.step, kept.batch.loss) == (5, 1.5), "a slice without a loss leaves the last one"


def test_a_commit_says_which_generation() -> None:
    page = folded(READY, COMMITTED)
    assert (page.generation, page.global_step, page.adapter_step) == (6, 44, 8)


def test_a_night_moves_base_adapter_and_generation() -> None:
    done = NightCommitted(night="n2", generation=9, model_path="m", global_step=44, adapter_id="a0003")
    page = folded(READY, NightStarted(night="n2", due_date="d", deltas=2), done)
    assert (page.generation, page.adapter_id, page.adapter_step, page.night) == (9, "a0003", 0, "n2")
    page = folded(
        READY, done, NightFinished(night="n2", model_path="m", seconds=5.0), NightClosed(night="n2", committed=True)
    )  # fmt: skip
    assert (page.last_consolidation, page.base, page.night) == ("n2", "n2", "")


def test_the_queue_is_what_is_claimed_and_what_waits_without_the_one_in_training() -> None:
    page = folded(survey(claimed=("a.jsonl", "b.jsonl"), waiting=("c.jsonl",)))
    assert page.queue == ["a.jsonl", "b.jsonl", "c.jsonl"]
    page = folded(survey(claimed=("a.jsonl", "b.jsonl"), waiting=("c.jsonl",)), STARTED)
    assert page.queue == ["b.jsonl", "c.jsonl"]
    page = folded(STARTED, survey(claimed=("a.jsonl", "b.jsonl"), unready=("u",), ignored=("i",)))
    assert (page.queue, page.unready, page.ignored) == (["b.jsonl"], ["u"], ["i"])


def test_f6_two_batches_of_one_name_are_one_in_the_queue_while_the_other_trains() -> None:
    page = folded(STARTED, survey(claimed=("a.jsonl", "a.jsonl")))
    assert page.queue == ["a.jsonl"]


def test_a_reporter_that_begins_anew_in_the_middle_of_a_batch_says_that_it_trains() -> None:
    page = folded(PROGRESS)
    assert page.batch is not None
    assert (page.state, page.batch.batch, page.batch.step) == ("training", PROGRESS.batch, PROGRESS.step)


def test_disk_is_what_was_measured() -> None:
    assert folded(DiskMeasured(free_bytes=5, needed_bytes=6, ok=False)).disk == DiskLine(5, 6, False)


CRASHED = ActorCrashed(
    actor="validator",
    incarnation=2,
    message_type="BatchClaimed",
    why="Traceback ...\n\nValueError: no",
    cause_chain=(),
    restart_in_s=0.5,
)


@pytest.mark.parametrize(
    ("said", "code", "message"),
    [
        (REJECTED, "NF-DATA-001", "a.jsonl: 2 of 3 lines"),
        (FAILED, "NF-DATA-001", "a.jsonl: 2 of 3 lines"),
        (CommitFailed(ticket="t", code="NF-DISK-001", why="full", out_of_space=True), "NF-DISK-001", "full"),
        (NightRefused(night="n1", code="NF-MERGE-001", why="late"), "NF-MERGE-001", "night n1: late"),
        (DamageFound(what="g/4", why="bit", instead="g/3"), "NF-STATE-006", "g/4: bit"),
        (CRASHED, "NF-RUN-005", "validator crashed over BatchClaimed: ValueError: no"),
        (ActorGaveUp(actor="trainer", why="6 crashes", disabled=False), "NF-RUN-003", "trainer: 6 crashes"),
        (ActorGaveUp(actor="x", why="6 crashes", disabled=True), "NF-RUN-006", "x is switched off: 6 crashes"),
        (PluginNoted(plugin="x", what="down", code="NF-PLUGIN-010", hint="wait"), "NF-PLUGIN-010", "x: down"),
        (ActorStuck(actor="trainer", seconds=901.4, stack="in step"), "NF-RUN-004", "trainer stands still for 901 s"),
    ],
)
def test_trouble_is_the_last_error(said: Message, code: str, message: str) -> None:
    page = folded(said)
    assert page.last_error is not None
    assert (page.last_error.code, page.last_error.message, page.last_error.when) == (code, message, WHEN)
    assert page.problems == [page.last_error]
    assert page.last_error.hint != ""


def test_a_plug_in_that_was_switched_off_is_named_with_reason_and_time_once() -> None:
    twice = [ActorGaveUp(actor="plugins.bell", why=why, disabled=True) for why in ("6 crashes", "it blocks")]
    page = folded(*twice, ActorGaveUp(actor="trainer", why="6 crashes", disabled=False))
    assert page.disabled == [DisabledLine("plugins.bell", "it blocks", WHEN)]


def test_what_a_plug_in_notes_without_a_code_is_no_trouble() -> None:
    assert folded(PluginNoted(plugin="x", what="all is well")).last_error is None


def test_b1_damage_says_what_is_used_instead() -> None:
    page = folded(DamageFound(what="g/4", why="bit", instead="g/3"))
    assert page.last_error == ErrorLine("NF-STATE-006", "g/4: bit", "in its place: g/3", WHEN)


def test_the_newest_ten_problems_are_kept() -> None:
    said = [NightRefused(night=f"n{number}", code="NF-MERGE-001", why="x") for number in range(25)]
    page = folded(*said)
    assert [one.message for one in page.problems] == [f"night n{number}: x" for number in range(15, 25)]
    assert page.last_error == page.problems[-1]


def test_b3_deletes_that_are_stuck_are_counted_until_they_go() -> None:
    assert folded(RetentionApplied(deleted=(), stuck=("a", "b"))).deletes_stuck == 2
    assert folded(RetentionApplied(deleted=(), stuck=("a",)), RetentionApplied(("a",), ())).deletes_stuck == 0


def test_a3_restarts_and_drops_are_counted() -> None:
    page = folded(CRASHED, CRASHED, MessagesDropped(actor="plugin", count=64), MessagesDropped(actor="x", count=2))
    assert (page.restarts, page.dropped) == (2, 64)


def test_two_pages_share_nothing() -> None:
    first = folded(survey(waiting=("a",)), REJECTED)
    assert Page() == msgspec.structs.replace(Page())
    assert (first.queue, Page().queue, Page().problems) == (["a"], [], [])


def test_the_last_scrub_is_told_with_its_time_and_what_it_came_to() -> None:
    assert folded().last_scrub is None
    page = folded(ScrubFinished(things=7, size_bytes=100, damaged=1, seconds=9.0))
    assert page.last_scrub is not None
    assert (page.last_scrub.things, page.last_scrub.size_bytes, page.last_scrub.damaged) == (7, 100, 1)
    assert page.last_scrub.when
    assert page.last_error is None


def test_n10_the_figures_of_the_last_night_that_measured_are_told() -> None:
    folder = Folder(Page())
    good, worse = HeldOutLoss(2, 30, 1.5, 1.5, 2.25), HeldOutLoss(2, 30, 1.75, 1.5, 2.25)
    folder.fold(NightVerified("n1", 3, 0.0, 1.0, good), "now")
    assert folder.page.held_out == good
    folder.fold(NightRefused("n2", "NF-MERGE-032", "1.75 and not 1.5", worse), "now")
    assert folder.page.held_out == worse
    assert folder.page.last_error is not None
    assert folder.page.last_error.message == "night n2: 1.75 and not 1.5"
    folder.fold(NightRefused("n3", "NF-MERGE-001", "late"), "now")
    assert folder.page.held_out == worse, "that night measured nothing"
    folder.fold(NightVerified("n4", 3, 0.0, 1.0), "now")
    assert folder.page.held_out is None
