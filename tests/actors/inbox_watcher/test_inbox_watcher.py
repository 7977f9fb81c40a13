"""The InboxWatcher as an actor: what it claims, tells and files while people and disks do what they do."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.inbox_watcher import actor as room
from actors.inbox_watcher.actor import InboxWatcher, InboxWatcherSettings
from messages import (
    BatchAccepted,
    BatchClaimed,
    BatchesWanted,
    BatchFailed,
    BatchFiled,
    BatchRejected,
    BatchTrained,
    FileWithdrawn,
    InboxChanged,
    InboxReplaced,
    InboxSurveyed,
    MessageDeadLettered,
    Receipt,
    Report,
    TrainedFilesDeleted,
    Trouble,
)
from runtime import Actor, Child, OperatorError, Retry, on
from runtime.disk import Disk
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import IoError, NoSpace
from tests.actors.stage import CUTS, Stage, cut_at, fails_at, operations_of

LINE = b'{"text": "x"}\n'


def watcher(**settings: float) -> Child:
    settings = {"scan_every_seconds": 2.0, "quiet_seconds": 0.5, **settings}
    made = InboxWatcherSettings(**settings)  # type: ignore[arg-type]
    return Child("inbox_watcher", InboxWatcher, settings=made, on_crash=Retry(1), drain=False)


def stage_of(*names: str, **settings: float) -> Stage:
    disk = SimDisk()
    disk.person_mkdir("inbox")
    stage = Stage(watcher(**settings), disk=disk)
    disk._now_ns = stage.loop.wall_ns
    for name in names:
        disk.person_put(f"inbox/{name}", LINE)
    return stage


def accepted(claimed: BatchClaimed) -> BatchAccepted:
    return BatchAccepted(
        batch=claimed.batch, name=claimed.name, path=claimed.path, digest="d", size_bytes=1, examples=1
    )  # fmt: skip


def rejected(claimed: BatchClaimed) -> BatchRejected:
    report = Report(batch=claimed.batch, name=claimed.name, trouble=Trouble("NF-DATA-001", "bad"))
    return BatchRejected(batch=claimed.batch, name=claimed.name, path=claimed.path, report=report)


def trained(claimed: BatchClaimed) -> BatchTrained:
    receipt = Receipt(claimed.batch, claimed.name, "d", 1, 1, 1, 0, 1, "a0001", 1, 0, 0, None, None, 1.0)
    return BatchTrained(batch=claimed.batch, name=claimed.name, receipt=receipt)


def died(kind: type, actor: str, subject: str = "") -> MessageDeadLettered:
    return MessageDeadLettered(actor=actor, message_type=kind.__name__, why="it crashed", subject=subject)


def _always(moment: int) -> Callable[[], int]:
    return lambda: moment


def test_a_dropped_file_is_claimed_sent_on_and_filed() -> None:
    stage = stage_of("a.jsonl")

    async def act(stage: Stage) -> None:
        claimed = await stage.hears(BatchClaimed)
        path = "state/batches/000001/a.jsonl"
        assert claimed == BatchClaimed(batch="000001", name="a.jsonl", path=path, size_bytes=len(LINE))
        await stage.tell(accepted(claimed), trained(claimed))
        filed = await stage.hears(BatchFiled)
        assert filed == BatchFiled(batch="000001", name="a.jsonl", folder="trained", path="trained/a.jsonl")

    stage.play(act)
    assert stage.disk.listdir("trained") == ["a.jsonl", "a.jsonl.receipt.json"]
    assert stage.heard(InboxSurveyed)[-1] == InboxSurveyed(
        waiting=(), waiting_count=0, unready=(), ignored=(), claimed=()
    )


def test_f5_no_more_than_claims_max_leave_the_inbox_and_the_rest_waits_in_order() -> None:
    stage = stage_of(claims_max=2)
    for moment, name in enumerate(("c", "a", "d", "b")):
        stage.disk._now_ns = _always(moment)
        stage.disk.person_put(f"inbox/{name}.jsonl", LINE)

    async def act(stage: Stage) -> None:
        await stage.hears(BatchClaimed, 2)
        await stage.rest(10)
        assert [one.name for one in stage.heard(BatchClaimed)] == ["c.jsonl", "a.jsonl"]
        told = stage.heard(InboxSurveyed)[-1]
        assert (told.waiting, told.waiting_count, told.claimed) == (("d.jsonl", "b.jsonl"), 2, ("c.jsonl", "a.jsonl"))
        await stage.tell(trained(stage.heard(BatchClaimed)[0]))
        assert (await stage.hears(BatchClaimed, 3)).name == "d.jsonl"
        assert stage.disk.listdir("inbox") == ["b.jsonl"]

    stage.play(act)


def test_f5_only_the_first_hundred_names_are_told_but_all_are_counted() -> None:
    stage = stage_of(*(f"{number:03d}.jsonl" for number in range(130)), claims_max=1)

    async def act(stage: Stage) -> None:
        await stage.hears(BatchClaimed)
        await stage.rest(3)
        told = stage.heard(InboxSurveyed)[-1]
        assert (len(told.waiting), told.waiting_count) == (100, 129)

    stage.play(act)


def test_trained_files_beyond_the_bound_go_with_their_receipts_and_are_told() -> None:
    stage = stage_of(*(f"{number}.jsonl" for number in range(4)), keep_trained_files=2)

    async def act(stage: Stage) -> None:
        for number in range(1, 5):
            claimed = await stage.hears(BatchClaimed, number)
            await stage.tell(trained(claimed))
            await stage.hears(BatchFiled, number)
        await stage.rest(10.0)

    stage.play(act)
    assert stage.disk.listdir("trained") == [
        "2.jsonl",
        "2.jsonl.receipt.json",
        "3.jsonl",
        "3.jsonl.receipt.json",
    ]
    assert [name for one in stage.heard(TrainedFilesDeleted) for name in one.names] == ["0.jsonl", "1.jsonl"]


def test_a_survey_is_told_only_when_it_changed() -> None:
    stage = stage_of()

    async def act(stage: Stage) -> None:
        await stage.rest(60)
        assert stage.count(InboxSurveyed) == 1
        stage.disk.person_put("inbox/note.txt", b"x")
        await stage.rest(60)
        assert [one.ignored for one in stage.heard(InboxSurveyed)] == [(), ("note.txt",)]

    stage.play(act)


def test_f4_an_upload_in_pieces_is_claimed_when_it_is_whole() -> None:
    stage = stage_of()

    async def act(stage: Stage) -> None:
        stage.disk.begin_person_write("inbox/a.jsonl")
        for _ in range(5):
            stage.disk.person_write("inbox/a.jsonl", LINE)
            await stage.rest(20)
        assert stage.count(BatchClaimed) == 0
        assert stage.heard(InboxSurveyed)[-1].unready == ("a.jsonl",)
        stage.disk.end_person_write("inbox/a.jsonl")
        assert (await stage.hears(BatchClaimed, within=5)).size_bytes == 5 * len(LINE)

    stage.play(act)


def test_a_hint_wakes_the_scan_before_its_time() -> None:
    stage = stage_of(scan_every_seconds=3600.0, quiet_seconds=0.0)

    async def act(stage: Stage) -> None:
        stage.disk.person_put("inbox/a.jsonl", LINE)
        await stage.rest(10)
        assert stage.count(BatchClaimed) == 0
        await stage.tell(InboxChanged())
        await stage.hears(BatchClaimed, within=1)

    stage.play(act)


def test_f9_a_file_taken_back_before_it_was_claimed_is_noted() -> None:
    stage = stage_of("a.jsonl", quiet_seconds=60.0)

    async def act(stage: Stage) -> None:
        await stage.rest(3)
        stage.disk.person_remove("inbox/a.jsonl")
        assert await stage.hears(FileWithdrawn) == FileWithdrawn(name="a.jsonl")
        await stage.rest(100)

    stage.play(act)
    assert stage.count(BatchClaimed) == 0
    assert stage.count(FileWithdrawn) == 1


def test_f9_a_claimed_file_that_somebody_takes_does_not_hold_up_the_others() -> None:
    stage = stage_of("a.jsonl", "b.jsonl", claims_max=1)

    async def act(stage: Stage) -> None:
        claimed = await stage.hears(BatchClaimed)
        stage.disk.person_remove(claimed.path)
        assert (await stage.hears(FileWithdrawn)).name == "a.jsonl"
        assert (await stage.hears(BatchClaimed, 2)).name == "b.jsonl"
        # It was in training: its outcome comes all the same, and has its receipt.
        await stage.tell(trained(claimed))
        await stage.hears(BatchFiled)
        assert stage.disk.listdir("trained") == ["a.jsonl.receipt.json"]

    stage.play(act)


def test_the_inbox_is_made_again_when_it_is_removed() -> None:
    stage = stage_of()

    async def act(stage: Stage) -> None:
        stage.disk.person_remove("inbox")
        assert await stage.hears(InboxReplaced) == InboxReplaced(made_again=True)
        stage.disk.person_put("inbox/a.jsonl", LINE)
        await stage.hears(BatchClaimed)

    stage.play(act)
    assert stage.count(InboxReplaced) == 1


def test_the_inbox_is_watched_anew_when_it_is_replaced() -> None:
    stage = stage_of()

    async def act(stage: Stage) -> None:
        stage.disk.person_remove("inbox")
        stage.disk.person_mkdir("inbox")
        stage.disk.person_put("inbox/a.jsonl", LINE)
        assert await stage.hears(InboxReplaced) == InboxReplaced(made_again=False)
        await stage.hears(BatchClaimed)

    stage.play(act)
    assert stage.count(InboxReplaced) == 1


def test_f7_links_and_folders_are_refused_with_a_report_and_what_they_point_to_is_not_touched() -> None:
    stage = stage_of()
    stage.disk.person_put("secret", b"do not touch")
    stage.disk.symlink("../secret", "inbox/link.jsonl")
    stage.disk.person_mkdir("inbox/folder.jsonl")
    stage.disk.person_put("inbox/folder.jsonl/inner", b"kept")

    async def act(stage: Stage) -> None:
        await stage.hears(BatchFiled, 2)

    stage.play(act)
    codes = {(one.name, one.report.trouble.code, one.report.trouble.message) for one in stage.heard(BatchRejected)}
    assert codes == {
        ("link.jsonl", "NF-DATA-004", "link.jsonl is a link, not a file"),
        ("folder.jsonl", "NF-DATA-004", "folder.jsonl is a dir, not a file"),
    }
    assert stage.disk.readlink("rejected/link.jsonl") == "../secret"
    assert stage.disk.read("secret") == b"do not touch"
    assert stage.disk.read("rejected/folder.jsonl/inner") == b"kept"
    assert stage.count(BatchClaimed) == 0


def test_d5_filing_is_tried_again_until_the_disk_takes_it() -> None:
    stage = stage_of("a.jsonl")

    async def act(stage: Stage) -> None:
        claimed = await stage.hears(BatchClaimed)
        stage.disk.faults = lambda _number, _operation, path: NoSpace() if path.startswith("trained/") else None
        await stage.tell(trained(claimed))
        await stage.rest(30)
        assert stage.count(BatchFiled) == 0
        assert stage.disk.stat(claimed.path) is not None
        stage.disk.faults = None
        assert (await stage.hears(BatchFiled, within=5)).path == "trained/a.jsonl"

    stage.play(act)
    assert stage.system.cells["inbox_watcher"].incarnation == 1


@pytest.mark.parametrize("point", range(1, 11))
def test_d5_a_claim_the_disk_refuses_at_any_operation_is_taken_up_again(point: int) -> None:
    stage = stage_of()

    async def act(stage: Stage) -> None:
        fails_at(stage.disk, point, IoError())
        stage.disk.person_put("inbox/a.jsonl", LINE)
        claimed = await stage.hears(BatchClaimed, within=60)
        await stage.rest(10)
        assert stage.count(BatchClaimed) == 1
        assert stage.disk.read(claimed.path) == LINE
        await stage.tell(trained(claimed))
        await stage.hears(BatchFiled)

    stage.play(act)
    assert stage.disk.listdir("trained") == ["a.jsonl", "a.jsonl.receipt.json"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOENT])
def test_d6_a_disk_that_is_read_only_or_gone_ends_the_daemon_with_74(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stage_of()

    async def act(stage: Stage) -> None:
        def refuse(*_: object) -> None:
            raise OSError(number, "gone")

        monkeypatch.setattr(room, "claim", refuse)
        if number == errno.ENOENT:
            stage.disk.person_remove("state/batches")
        stage.disk.person_put("inbox/a.jsonl", LINE)
        await stage.rest(3600)

    with pytest.raises(OperatorError) as caught:
        stage.play(act)
    assert (caught.value.code, caught.value.exit_code) == ("NF-DISK-002", 74)


def test_batches_wanted_announces_again_what_has_no_outcome_yet() -> None:
    stage = stage_of("a.jsonl", "b.jsonl")

    async def act(stage: Stage) -> None:
        await stage.hears(BatchClaimed, 2)
        stage.disk.faults = lambda _number, _operation, path: NoSpace() if path.startswith("trained/") else None
        await stage.tell(trained(stage.heard(BatchClaimed)[0]))  # known, but not to be filed yet
        await stage.rest(1)
        await stage.tell(BatchesWanted())
        await stage.rest(1)
        assert [one.name for one in stage.heard(BatchClaimed)] == ["a.jsonl", "b.jsonl", "b.jsonl"]

    stage.play(act)


def test_r1_a_restart_announces_what_was_claimed_and_claims_no_number_twice() -> None:
    first = stage_of("a.jsonl")

    async def claim_it(stage: Stage) -> None:
        await stage.hears(BatchClaimed)

    first.play(claim_it)
    again = Stage(watcher(), disk=first.disk)

    async def act(stage: Stage) -> None:
        assert await stage.hears(BatchClaimed) == first.heard(BatchClaimed)[0]
        stage.disk.person_put("inbox/a.jsonl", LINE)
        assert (await stage.hears(BatchClaimed, 2)).batch == "000002"

    again.play(act)


def test_an_outcome_of_a_batch_that_is_filed_is_answered_and_nothing_else() -> None:
    stage = stage_of("a.jsonl")

    async def act(stage: Stage) -> None:
        claimed = await stage.hears(BatchClaimed)
        await stage.tell(trained(claimed))
        await stage.hears(BatchFiled)
        before = stage.disk.tree()
        await stage.tell(trained(claimed))
        again = await stage.hears(BatchFiled, 2)
        assert again == BatchFiled(batch="000001", name="a.jsonl", folder="trained", path="")
        assert stage.disk.tree() == before

    stage.play(act)


def test_a1_a_crash_over_an_outcome_files_it_all_the_same() -> None:
    stage = stage_of("a.jsonl")

    async def act(stage: Stage) -> None:
        claimed = await stage.hears(BatchClaimed)
        stage.crash_over("inbox_watcher", BatchRejected)
        await stage.tell(rejected(claimed))
        assert (await stage.hears(BatchFiled)).path == "rejected/a.jsonl"

    stage.play(act)
    assert stage.system.cells["inbox_watcher"].incarnation == 2


# Strikes.


class Fragile(Actor):
    """A Validator, or a plug-in, that crashes over every claim."""

    @on
    async def check(self, claimed: BatchClaimed) -> None:
        raise RuntimeError(f"cannot read {claimed.name}")


def test_a1_a_file_that_kills_its_reader_twice_ends_in_failed() -> None:
    disk = SimDisk()
    disk.person_mkdir("inbox")
    disk.person_put("inbox/a.jsonl", LINE)
    stage = Stage(Child("validator", Fragile, on_crash=Retry(1), intensity=20), watcher(), disk=disk)

    async def act(stage: Stage) -> None:
        filed = await stage.hears(BatchFiled)
        assert filed.path == "failed/a.jsonl"

    stage.play(act)
    (failed,) = stage.heard(BatchFailed)
    assert failed.report.trouble.code == "NF-RUN-010"
    assert stage.count(BatchClaimed) == 2
    assert stage.count(MessageDeadLettered) == 2
    assert disk.listdir("failed") == ["a.jsonl", "a.jsonl.report.json"]


def test_a3_a_plug_in_that_crashes_over_claims_fails_no_file() -> None:
    disk = SimDisk()
    disk.person_mkdir("inbox")
    disk.person_put("inbox/a.jsonl", LINE)
    stage = Stage(Child("plugin", Fragile, intensity=20), watcher(), disk=disk)

    async def act(stage: Stage) -> None:
        await stage.hears(MessageDeadLettered)
        await stage.rest(60)

    stage.play(act)
    assert stage.count(BatchClaimed) == 1
    assert stage.count(BatchFailed) == 0


def test_the_strike_is_against_the_oldest_file_that_is_not_validated() -> None:
    stage = stage_of("a.jsonl", "b.jsonl")

    async def act(stage: Stage) -> None:
        await stage.hears(BatchClaimed, 2)
        first, second = stage.heard(BatchClaimed)
        await stage.tell(accepted(first))
        for _ in range(2):
            await stage.tell(died(BatchClaimed, "validator"))
        failed = await stage.hears(BatchFailed)
        assert failed.batch == second.batch
        await stage.hears(BatchFiled)
        # Nobody is left to strike.
        await stage.tell(died(BatchClaimed, "validator"))
        await stage.rest(5)
        assert stage.count(BatchFailed) == 1

    stage.play(act)


def test_a1_two_files_over_which_it_crashed_once_each_are_both_sent_again() -> None:
    stage = stage_of("a.jsonl", "b.jsonl")

    async def act(stage: Stage) -> None:
        await stage.hears(BatchClaimed, 2)
        claims = stage.heard(BatchClaimed)
        await stage.tell(*(died(BatchClaimed, "validator", one.batch) for one in claims))
        await stage.hears(BatchClaimed, 4)
        await stage.rest(5)
        assert stage.heard(BatchClaimed)[2:] == claims
        assert stage.count(BatchFailed) == 0
        await stage.tell(died(BatchClaimed, "validator", claims[1].batch))
        assert (await stage.hears(BatchFailed)).batch == claims[1].batch

    stage.play(act)


def test_an_accepted_batch_that_is_announced_again_is_not_lost_with_the_validator() -> None:
    stage = stage_of("a.jsonl", "b.jsonl")

    async def act(stage: Stage) -> None:
        await stage.hears(BatchClaimed, 2)
        first, second = stage.heard(BatchClaimed)
        await stage.tell(accepted(first), accepted(second), BatchesWanted())  # a Trainer that was restarted
        assert (await stage.hears(BatchClaimed, 4)).batch == second.batch
        for times in (1, 2, 3):
            await stage.tell(died(BatchClaimed, "validator", first.batch))
            assert (await stage.hears(BatchClaimed, 4 + times)).batch == first.batch
        await stage.rest(5)
        assert stage.count(BatchFailed) == 0, "it was accepted, so it is not what kills the Validator"

    stage.play(act)


def test_a_claim_that_died_though_all_are_accepted_has_all_announced_again() -> None:
    stage = stage_of("a.jsonl", "b.jsonl")

    async def act(stage: Stage) -> None:
        await stage.hears(BatchClaimed, 2)
        first, second = stage.heard(BatchClaimed)
        # The word of the first time came after the second was sent: whose second it was that died nobody can tell.
        await stage.tell(BatchesWanted(), accepted(first), accepted(second), died(BatchClaimed, "validator"))
        await stage.hears(BatchClaimed, 6)
        assert [one.batch for one in stage.heard(BatchClaimed)[4:]] == [first.batch, second.batch]

    stage.play(act)


def test_an_accepted_batch_that_the_trainer_lost_is_announced_again() -> None:
    stage = stage_of("a.jsonl")

    async def act(stage: Stage) -> None:
        claimed = await stage.hears(BatchClaimed)
        await stage.tell(accepted(claimed), died(BatchAccepted, "trainer"))
        assert await stage.hears(BatchClaimed, 2) == claimed
        await stage.tell(died(BatchAccepted, "status_reporter"), died(InboxChanged, "inbox_watcher"))
        await stage.rest(5)
        assert stage.count(BatchClaimed) == 2

    stage.play(act)


# The whole of its life under power cuts, as one job.


def _life(disk: SimDisk) -> object:
    """A file comes, is claimed and filed."""
    stage = Stage(watcher(), disk=disk)

    async def act(stage: Stage) -> None:
        await stage.tell(trained(await stage.hears(BatchClaimed)))
        await stage.hears(BatchFiled)

    return stage.play(act)


def _with_a_file() -> SimDisk:
    disk = SimDisk()
    disk.person_mkdir("inbox")
    disk.person_put("inbox/a.jsonl", LINE)
    return disk


def test_r1_power_cut_at_every_operation_of_a_files_life() -> None:
    for point in range(1, operations_of(_with_a_file, _life) + 1):
        for cut in CUTS[point % 2 :: 2]:
            disk = cut_at(_with_a_file, _life, point, cut)
            if disk.stat("trained/a.jsonl") is None:
                _life(disk)
            else:
                Stage(watcher(), disk=disk).play(_rest)
            assert [path for path, data in disk.tree().items() if data == LINE] == ["trained/a.jsonl"]
            assert disk.listdir("trained") == ["a.jsonl", "a.jsonl.receipt.json"]
            assert disk.listdir("state/batches") == ["LAST"]


async def _rest(stage: Stage) -> None:
    await stage.rest(10)


def test_f7_a_name_that_is_no_text_is_told_and_filed_as_text(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "caf\udce9.jsonl").write_bytes(LINE)
    stage = Stage(watcher(quiet_seconds=0.0, settle_seconds=0.0), disk=Disk(tmp_path))  # type: ignore[arg-type]

    async def act(stage: Stage) -> None:
        claimed = await stage.hears(BatchClaimed)
        assert claimed.name == "caf?.jsonl"
        await stage.tell(trained(claimed))
        assert (await stage.hears(BatchFiled)).path == "trained/caf?.jsonl"

    stage.play(act)
    assert (tmp_path / "trained" / "caf?.jsonl").read_bytes() == LINE
