"""The Validator as an actor: accepted or rejected by policy, and never stopped by a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.validator import actor as room
from actors.validator.actor import Validator
from actors.validator.inspection import inspect
from actors.validator.settings import ValidatorSettings
from messages import (
    BatchAccepted,
    BatchClaimed,
    BatchFiled,
    BatchRejected,
    BatchTrained,
    LineError,
    MessageDeadLettered,
    Receipt,
)
from runtime import Child, Retry, durable
from runtime.disk import Disk
from runtime.simulation.disk import SimDisk
from tests.actors.stage import Stage

GOOD = b'{"prompt": "p", "completion": "c"}\n'
BAD = b'{"prompt": 7}\n'
PATH = "state/batches/000001/a.jsonl"
CLAIM = BatchClaimed(batch="000001", name="a.jsonl", path=PATH, size_bytes=1)


def home(content: bytes | None = None) -> SimDisk:
    disk = SimDisk()
    for folder in ("state", "state/batches", "state/batches/000001", "trained"):
        disk.person_mkdir(folder)
    if content is not None:
        disk.person_put(PATH, content)
    return disk


def receipt(digest: str, name: str = "before.jsonl") -> Receipt:
    return Receipt("000000", name, digest, 1, 1, 1, 0, 1, "a0001", 1, 0, 0, None, None, 1.0)


def stage_of(disk: SimDisk | Disk, **settings: Any) -> Stage:
    made = msgspec.convert(settings, ValidatorSettings)
    child = Child("validator", Validator, settings=made, on_crash=Retry(1), drain=False)
    return Stage(child, disk=disk)  # type: ignore[arg-type]


def verdict(disk: SimDisk | Disk, claim: BatchClaimed = CLAIM, **settings: Any) -> BatchAccepted | BatchRejected:
    async def act(stage: Stage) -> None:
        await stage.tell(claim)
        await stage.rest(5)

    stage = stage_of(disk, **settings).play(act)
    (found,) = [one for one in stage.told if isinstance(one, BatchAccepted | BatchRejected)]
    return found


def test_a_good_file_is_accepted_by_its_bytes() -> None:
    content = GOOD + b'{"prompt": "q", "completion": "d"}\n'
    assert verdict(home(content)) == BatchAccepted(
        batch="000001",
        name="a.jsonl",
        path=PATH,
        digest=durable.digest_of_bytes(content),
        size_bytes=len(content),
        examples=2,
    )


def test_f10_a_file_with_a_bad_line_is_rejected_with_the_line() -> None:
    found = verdict(home(GOOD + BAD))
    assert isinstance(found, BatchRejected)
    report = found.report
    assert (report.trouble.code, report.trouble.message) == ("NF-DATA-001", "1 of 2 lines are not fit to train")
    assert "nightfold retry HOME a.jsonl" in report.trouble.hint
    assert [(error.line, error.path) for error in report.errors] == [(2, "$.prompt")]
    assert (report.error_count, report.good_lines, report.steps_kept) == (1, 1, 0)
    assert report.when.startswith("2026-01-01T00:00:0")


def test_f10_by_policy_the_good_lines_are_trained_and_the_rest_reported() -> None:
    found = verdict(home(GOOD + BAD), bad_lines="train_good_lines")
    assert isinstance(found, BatchAccepted)
    assert (found.examples, found.line_error_count) == (1, 1)
    assert isinstance(found.line_errors[0], LineError)
    assert found.line_errors[0].line == 2


def test_f10_a_file_without_a_good_line_is_rejected_whatever_the_policy() -> None:
    found = verdict(home(BAD * 25), bad_lines="train_good_lines")
    assert isinstance(found, BatchRejected)
    assert found.report.trouble.code == "NF-DATA-001"
    assert (found.report.error_count, len(found.report.errors)) == (25, 20)


@pytest.mark.parametrize("content", [b"", b"\n \n\n"], ids=["empty", "blank lines"])
def test_f3_a_file_without_an_example_is_rejected_in_words(content: bytes) -> None:
    found = verdict(home(content))
    assert isinstance(found, BatchRejected)
    assert (found.report.trouble.code, found.report.trouble.message) == ("NF-DATA-002", "the file holds no example")


# The same content again.


def _trained_before(disk: SimDisk) -> None:
    raw = msgspec.json.encode(receipt(durable.digest_of_bytes(GOOD)))
    disk.person_put("trained/before.jsonl.receipt.json", raw)


def test_f6_the_same_content_is_noted_and_trained() -> None:
    disk = home(GOOD)
    _trained_before(disk)
    found = verdict(disk)
    assert isinstance(found, BatchAccepted)
    assert found.warnings == ("the same content was trained before as before.jsonl",)


def test_f6_the_same_content_is_skipped_if_the_config_says_so() -> None:
    disk = home(GOOD)
    _trained_before(disk)
    found = verdict(disk, same_content="skip")
    assert isinstance(found, BatchRejected)
    assert found.report.trouble.code == "NF-DATA-005"
    assert found.report.trouble.message == "the same content was trained as before.jsonl"
    other = verdict(_with(home(GOOD + GOOD), _trained_before), same_content="skip")
    assert isinstance(other, BatchAccepted)


def _with(disk: SimDisk, put: Any) -> SimDisk:
    put(disk)
    return disk


def test_f6_content_whose_file_and_receipt_were_let_go_of_is_known_still() -> None:
    disk = home(GOOD)
    line = {"batch": "000000", "name": "long ago.jsonl", "digest": durable.digest_of_bytes(GOOD)}
    disk.person_put("state/batches/FORGOTTEN", b"{torn\n" + msgspec.json.encode(line) + b"\n")
    found = verdict(disk, same_content="skip")
    assert isinstance(found, BatchRejected)
    assert found.report.trouble.message == "the same content was trained as long ago.jsonl"


def test_f6_a_batch_whose_own_receipt_lies_there_is_no_repetition() -> None:
    """The power went between its receipt and its move: skipped now, a trained file would end in rejected/."""
    disk = home(GOOD)
    own = msgspec.structs.replace(receipt(durable.digest_of_bytes(GOOD), "a.jsonl"), batch="000001")
    disk.person_put("trained/a.jsonl.receipt.json", msgspec.json.encode(own))
    found = verdict(disk, same_content="skip")
    assert isinstance(found, BatchAccepted)
    assert found.warnings == ()


def test_f6_what_was_trained_since_the_start_counts_too() -> None:
    disk = home(GOOD)

    async def act(stage: Stage) -> None:
        trained = receipt(durable.digest_of_bytes(GOOD), "just now.jsonl")
        await stage.tell(BatchTrained(batch="000000", name="just now.jsonl", receipt=trained), CLAIM)
        accepted = await stage.hears(BatchAccepted)
        assert accepted.warnings == ("the same content was trained before as just now.jsonl",)

    stage_of(disk).play(act)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"name": 1, "digest": "x"}', b'{"name": "\xff", "digest": "d"}', b"[]"]
)
def test_a_damaged_receipt_only_loses_its_note(damage: bytes) -> None:
    disk = home(GOOD)
    disk.person_put("trained/a.jsonl.receipt.json", damage)
    _trained_before(disk)
    found = verdict(disk)
    assert isinstance(found, BatchAccepted)
    assert len(found.warnings) == 1


def test_a_home_without_trained_files_starts() -> None:
    disk = home(GOOD)
    disk.person_remove("trained")
    assert isinstance(verdict(disk), BatchAccepted)


# Files that are not there, or cannot be read.


def test_a_file_that_was_filed_meanwhile_has_its_outcome() -> None:
    async def act(stage: Stage) -> None:
        await stage.tell(CLAIM)
        await stage.rest(60)

    stage = stage_of(home()).play(act)
    assert not [one for one in stage.told if isinstance(one, BatchAccepted | BatchRejected)]
    assert stage.system.cells["validator"].incarnation == 1


class Unreadable(SimDisk):
    def chunks(self, path: str, size: int) -> Iterator[bytes]:
        if path == PATH:
            raise PermissionError(13, "Permission denied")
        return super().chunks(path, size)


def test_f7_an_unreadable_file_is_rejected_with_the_reason() -> None:
    disk = Unreadable()
    for folder in ("state", "state/batches", "state/batches/000001"):
        disk.person_mkdir(folder)
    found = verdict(disk)
    assert isinstance(found, BatchRejected)
    assert found.report.trouble.code == "NF-DATA-006"
    assert "Permission denied" in found.report.trouble.message


def test_f7_odd_names_are_read(tmp_path: Path) -> None:
    name = "-a\n\N{PARTY POPPER}.jsonl"
    (tmp_path / "state" / "batches" / "000001").mkdir(parents=True)
    (tmp_path / "state" / "batches" / "000001" / name).write_bytes(GOOD)
    claim = BatchClaimed(batch="000001", name=name, path=f"state/batches/000001/{name}", size_bytes=1)
    found = verdict(Disk(tmp_path), claim)
    assert isinstance(found, BatchAccepted)
    assert found.name == name


# Again and again, and crashes.


def test_the_same_claim_gets_the_same_answer_every_time() -> None:
    async def act(stage: Stage) -> None:
        await stage.tell(CLAIM, CLAIM)
        await stage.hears(BatchAccepted, 2)

    stage = stage_of(home(GOOD)).play(act)
    first, second = stage.heard(BatchAccepted)
    assert first == second


def test_a_claim_after_the_file_was_filed_under_the_same_number_is_read_anew() -> None:
    disk = home(GOOD)

    async def act(stage: Stage) -> None:
        await stage.tell(CLAIM)
        await stage.hears(BatchAccepted)
        await stage.tell(BatchFiled(batch="000001", name="a.jsonl", folder="trained", path="trained/a.jsonl"))
        disk.person_put(PATH, GOOD + GOOD)
        await stage.tell(CLAIM)
        assert (await stage.hears(BatchAccepted, 2)).examples == 2

    stage_of(disk).play(act)


def test_a1_a_crash_over_a_file_is_tried_once_more_and_then_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = home(GOOD)
    disk.person_mkdir("state/batches/000002")
    disk.person_put("state/batches/000002/b.jsonl", GOOD)

    def poisonous(disk: SimDisk, path: str, settings: ValidatorSettings) -> Any:
        if path == PATH:
            raise RecursionError("a file that kills its reader")
        return inspect(disk, path, settings)

    monkeypatch.setattr(room, "inspect", poisonous)

    async def act(stage: Stage) -> None:
        second = BatchClaimed(batch="000002", name="b.jsonl", path="state/batches/000002/b.jsonl", size_bytes=1)
        await stage.tell(CLAIM, second)
        dead = await stage.hears(MessageDeadLettered)
        assert (dead.actor, dead.message_type) == ("validator", "BatchClaimed")
        assert (await stage.hears(BatchAccepted)).batch == "000002", "the next file is not held up"
        assert stage.system.cells["validator"].incarnation == 3

    stage_of(disk).play(act)
