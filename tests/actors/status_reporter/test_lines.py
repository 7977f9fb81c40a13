"""The lines a person sees: what each says, and that none can play tricks on a terminal."""

from __future__ import annotations

import msgspec
import pytest

from actors.status_reporter.lines import line_for
from messages import (
    ActorCrashed,
    ActorGaveUp,
    ActorStarted,
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
    DamageHealed,
    DiskMeasured,
    DiskRecovered,
    DiskRunningLow,
    FileWithdrawn,
    GenerationCommitted,
    HeldOutLoss,
    InboxReplaced,
    LeftoversSwept,
    LineError,
    Message,
    MessageDeadLettered,
    MicroBatchHalved,
    NightClosed,
    NightFinished,
    NightRefused,
    NightStarted,
    NightVerified,
    PinSet,
    PluginNoted,
    Receipt,
    Report,
    ReserveMade,
    ReserveReleased,
    RetentionApplied,
    ScrubFinished,
    SnapshotKept,
    StepSkipped,
    TrainedFilesDeleted,
    TrainerReady,
    TrainingIdle,
    TrainingPaused,
    TrainingResumed,
    TrainingWaits,
    Trouble,
)

PAD = "\n" + " " * 13


def report(errors: int = 0, listed: int | None = None, hint: str = "mend them") -> Report:
    found = tuple(LineError(number, "$.text", "a string", "7") for number in range(1, 1 + (listed or errors)))
    return Report("000001", "a.jsonl", Trouble("NF-DATA-001", "not fit", hint), errors=found, error_count=errors)


def rejected(name: str = "a.jsonl", **given: int | str) -> BatchRejected:
    return BatchRejected(batch="000001", name=name, path="p", report=report(**given))  # type: ignore[arg-type]


def accepted(**given: object) -> BatchAccepted:
    return BatchAccepted(
        batch="000001", name="a.jsonl", path="p", digest="d", size_bytes=1, examples=3, **given  # type: ignore[arg-type]
    )  # fmt: skip


def trained(before: float | None, after: float | None, warnings: tuple[str, ...] = ()) -> BatchTrained:
    receipt = Receipt(
        "000001", "a.jsonl", "d", 3, 2, 10, 1, 10, "a0001", 9, 1, 0, before, after, 12.34, warnings=warnings
    )  # fmt: skip
    return BatchTrained(batch="000001", name="a.jsonl", receipt=receipt)


VERIFIED = "verified   3 tensors; largest logit difference to base + adapter 1.20e-04"


def held_out(before: float, after: float) -> BatchTrained:
    told = trained(2.0, 1.0)
    receipt = msgspec.structs.replace(
        told.receipt, held_out=1, loss_held_out_before=before, loss_held_out_after=after
    )  # fmt: skip
    return msgspec.structs.replace(told, receipt=receipt)


def started(step: int) -> BatchStarted:
    return BatchStarted(batch="000001", name="a.jsonl", step=step, steps=10, examples=3, tokens=99)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (accepted(), "checked    a.jsonl: 3 examples"),
        (accepted(line_error_count=2), "checked    a.jsonl: 3 examples, 2 bad lines left out"),
        (accepted(warnings=("one", "two")), f"checked    a.jsonl: 3 examples{PAD}note: one{PAD}note: two"),
        (rejected(hint=""), "rejected   a.jsonl: not fit [NF-DATA-001]"),
        (
            rejected(errors=1),
            f"rejected   a.jsonl: not fit [NF-DATA-001]{PAD}line 1: $.text: expected a string, found 7{PAD}mend them",
        ),
        (
            BatchFailed(batch="000001", name="a.jsonl", report=report(hint="")),
            "failed     a.jsonl: not fit [NF-DATA-001]",
        ),
        (started(0), "training   a.jsonl: 10 steps, 99 tokens"),
        (started(4), "training   a.jsonl: goes on at step 4 of 10"),
        (trained(2.0, 1.0), "trained    a.jsonl: loss 2.000 -> 1.000 in 10 steps, 12.3 s"),
        (held_out(2.5, 1.5), "trained    a.jsonl: loss 2.000 -> 1.000 (held out 2.500 -> 1.500) in 10 steps, 12.3 s"),
        (trained(None, None), "trained    a.jsonl: loss ? -> ? in 10 steps, 12.3 s"),
        (trained(2.0, 1.0, ("cut",)), f"trained    a.jsonl: loss 2.000 -> 1.000 in 10 steps, 12.3 s{PAD}note: cut"),
        (BatchFiled(batch="1", name="a", folder="trained", path="trained/a"), "filed      trained/a"),
        (BatchFiled(batch="1", name="a", folder="trained", path=""), None),
        (FileWithdrawn(name="a"), "withdrawn  a: taken back before it was claimed"),
        (InboxReplaced(made_again=True), "inbox      was removed and made again"),
        (InboxReplaced(made_again=False), "inbox      was replaced"),
        (
            TrainerReady(
                device="cpu",
                dtype="float32",
                model="tiny",
                parameters=1_230_000,
                trainable=4_000,
                generation=5,
                global_step=40,
                adapter_id="a0002",
                adapter_step=4,
                base="n1",
            ),
            (
                "ready      tiny on night n1: 1.23 M parameters, 4 k trained, float32 on cpu; "
                "adapter a0002 at step 4, 40 in all"
            ),
        ),
        (
            GenerationCommitted(
                ticket="t",
                generation=6,
                path="p",
                why="pause",
                global_step=44,
                adapter_id="a0002",
                adapter_step=8,
                size_bytes=2_500_000,
                seconds=0.123,
            ),
            "committed  generation 6 (pause): step 44, 2.5 MB in 123 ms",
        ),
        (SnapshotKept(path="snapshots/d", generation=6), "snapshot   snapshots/d"),
        (TrainingPaused(global_step=7), "paused     at step 7, everything committed"),
        (TrainingResumed(), "resumed"),
        (TrainingIdle(global_step=7), "idle       at step 7"),
        (TrainingWaits(name="a.jsonl", why="free disk space"), "waits      a.jsonl: free disk space"),
        (StepSkipped(batch="1", global_step=7, why="not finite"), "skipped    a step at 7: not finite"),
        (MicroBatchHalved(batch="1", micro_batch=2), "memory     ran out: 2 examples at a time now"),
        (
            NightStarted(night="n1", due_date="d", deltas=2),
            "night      n1: merging 2 delta(s) into the pristine base",
        ),
        (
            NightVerified(night="n1", tensors=3, max_logit_difference=0.00012, seconds=1.0),
            f"{VERIFIED}; nothing was held out to measure",
        ),
        (
            NightVerified("n1", 3, 0.00012, 1.0, HeldOutLoss(2, 30, merged=1.5012, adapter=1.5, yesterday=2.25)),
            f"{VERIFIED}; held-out loss 1.501, base + adapter 1.500, without the adapter 2.250",
        ),
        (NightFinished(night="n1", model_path="m", seconds=61.26), "night      n1: m is in force after 61.3 s"),
        (NightRefused(night="n1", code="NF-MERGE-001", why="late"), "night      refused: late [NF-MERGE-001]"),
        (
            CommitFailed(ticket="t", code="NF-DISK-001", why="full", out_of_space=True),
            "disk       refused the commit: full [NF-DISK-001]; training holds",
        ),
        (DamageHealed(what="d/1", how="it was restored"), "healed     d/1: it was restored"),
        (
            ScrubFinished(things=7, size_bytes=2_500_000, damaged=0, seconds=9.0),
            "scrubbed   7 things, 2.5 MB: all sound",
        ),
        (
            ScrubFinished(things=7, size_bytes=2_500_000, damaged=1, seconds=9.0),
            "scrubbed   7 things, 2.5 MB: 1 damaged",
        ),
        (DamageFound(what="g/4", why="bit", instead="g/3"), "damage     g/4: bit; in its place: g/3"),
        (LeftoversSwept(removed=("a", "b"), set_aside=("c",)), "swept      2 leftovers removed, 1 set aside"),
        (RetentionApplied(deleted=("a",), stuck=()), None),
        (RetentionApplied(deleted=(), stuck=("a", "b")), "stuck      could not delete a, b; tried again later"),
        (PinSet("41", "generation", pinned=True, was=False), "pinned     generation 41"),
        (PinSet("2026-11-23", "snapshot", pinned=False, was=True), "unpinned   snapshot 2026-11-23"),
        (TrainedFilesDeleted(("a", "b"), 7), "deleted    2 of the oldest files in trained/, 7 bytes"),
        (TrainedFilesDeleted((), 0, ("a",)), "stuck      could not delete a in trained/; tried again later"),
        (DiskRunningLow(free_bytes=1, free_bytes_min=2), "disk       only 1 bytes free, 2 wanted"),
        (DiskRunningLow(free_bytes=1, free_bytes_min=2, again=1), None),
        (ReserveMade(size_bytes=3), "reserve    3 bytes are set aside for a full disk"),
        (
            ReserveReleased(size_bytes=3, why="no space"),
            "reserve    3 bytes released, so that status and HEAD can be written: no space",
        ),
        (DiskRecovered(free_bytes=3), "disk       3 bytes free again"),
        (
            ActorCrashed("validator", 1, "BatchClaimed", "Traceback\nValueError: no\n", (), 0.25),
            "crashed    validator over BatchClaimed: ValueError: no; restarts in 0.2 s",
        ),
        (ActorGaveUp(actor="x", why="6 crashes", disabled=False), "gave up    x: 6 crashes"),
        (
            ActorGaveUp(actor="plugins.x", why="6 crashes", disabled=True),
            "disabled   plugins.x: 6 crashes [NF-RUN-006]; all else goes on without it",
        ),
        (PluginNoted(plugin="plugins.x", what="all is well"), "plug-in    plugins.x: all is well"),
        (
            PluginNoted(plugin="plugins.x", what="it is down", code="NF-PLUGIN-010", hint="start it"),
            f"plug-in    plugins.x: it is down [NF-PLUGIN-010]{PAD}start it",
        ),
        (ActorStuck(actor="x", seconds=901.4, stack="one\ntwo"), f"stuck      x for 901 s: one{PAD}two"),
        (
            MessageDeadLettered(actor="x", message_type="BatchClaimed", why="Traceback\nValueError: no", count=3),
            "dead       3 BatchClaimed to x: ValueError: no",
        ),
        (BatchClaimed(batch="1", name="a", path="p", size_bytes=1), None),
        (DiskMeasured(free_bytes=1, needed_bytes=1, ok=True), None),
        (ActorStarted(actor="x", incarnation=1), None),
        (NightClosed(night="n1", committed=True), None),
    ],
)
def test_what_a_line_says(said: Message, line: str | None) -> None:
    assert line_for(said) == line


def test_no_more_than_five_errors_are_shown_and_the_rest_counted() -> None:
    line = line_for(rejected(errors=31, listed=20))
    assert line is not None
    shown = line.split(PAD)
    assert [one.split(":")[0] for one in shown[1:6]] == [f"line {number}" for number in range(1, 6)]
    assert shown[6:] == ["and 26 more", "mend them"]


@pytest.mark.parametrize(
    "name", ["a\nb.jsonl", "a\x1b[2Jb.jsonl", "a\rb.jsonl", "a\u202eb.jsonl", "a\x00b.jsonl", "a\udce9b.jsonl"]
)
def test_f7_a_name_cannot_play_tricks_on_a_terminal(name: str) -> None:
    line = line_for(rejected(name=name))
    assert line is not None
    first = line.split(PAD)[0]
    assert first.isprintable()
    assert first.startswith("rejected   a\\")
    line.encode()


def test_f7_letters_of_the_world_are_shown_as_they_are() -> None:
    line = line_for(FileWithdrawn(name="\N{GREEK SMALL LETTER ALPHA}\N{PARTY POPPER}.jsonl"))
    assert line is not None
    assert "\N{GREEK SMALL LETTER ALPHA}\N{PARTY POPPER}.jsonl" in line
