"""history --pin, with a daemon and without; doctor --what-would-be-deleted; what each generation and night learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from actors.checkpointer.actor import CheckpointerSettings, store_as_configured
from actors.checkpointer.head import Head, Kept, Night, WentBack, generation_path
from messages import Delta, LearningState, Receipt
from runtime.control_socket import Refused, ask
from runtime.disk import Disk
from runtime.errors import OperatorError
from tests.tools.living_house import LivingHouse
from tests.tools.simulated_home import CONFIG, lived_in_home
from tools import cli
from tools.commands.history import read_head
from tools.commands.pin import pin
from tools.commands.rollback import rollback
from tools.house import read_config
from tools.learnt_since import by_generation, by_night


@pytest.fixture
def lived_in(tmp_path: Path) -> Path:
    return lived_in_home(tmp_path / "home")


def head_of(home: Path) -> Head:
    head = read_head(home)
    assert head is not None
    return head


def tree(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert cli.main(arguments) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


# Pinning.


def test_pinned_without_a_daemon_and_unpinned_again(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number = str(head_of(lived_in).kept[0].generation)
    assert cli.main(["history", str(lived_in), "--pin", number]) == 0
    assert capsys.readouterr().out == f"pinned: generation {number} stays until it is unpinned\n"
    assert head_of(lived_in).kept[0].pinned
    found = json_of(capsys, "history", str(lived_in), "--json")
    assert [one["generation"] for one in found["generations"] if one["pinned"]] == [int(number)]
    assert cli.main(["history", str(lived_in), "--pin", number]) == 0
    assert "pinned already" in capsys.readouterr().out
    assert cli.main(["history", str(lived_in), "--unpin", number]) == 0
    assert not head_of(lived_in).kept[0].pinned
    assert cli.main(["history", str(lived_in), "--unpin", number]) == 0
    assert "is not pinned" in capsys.readouterr().out


def test_a_living_daemon_is_asked_and_answers_the_same(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night, day = head_of(lived_in).nights[0].night, "2026-01-01"
    with LivingHouse(lived_in):
        for target in (night, day):
            assert pin(lived_in, target, pinned=True) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"pinned: night {night} stays until it is unpinned",
            f"pinned: snapshot {day} stays until it is unpinned",
        ]
        assert head_of(lived_in).nights[0].pinned
        assert [one.day for one in head_of(lived_in).snapshots] == [day]
        with pytest.raises(OperatorError) as caught:
            pin(lived_in, "99999", pinned=True)
        assert (caught.value.code, caught.value.exit_code) == ("NF-STATE-003", 2)
        assert str(lived_in) in caught.value.hint
    cli.main(["history", str(lived_in)])
    page = capsys.readouterr().out
    assert f"{day} (generation 1, pinned)" in page


def test_a_daemon_without_an_answer_is_an_error_that_says_it_may_come_yet(lived_in: Path) -> None:
    with LivingHouse(lived_in) as house:
        house.silent = True
        with pytest.raises(OperatorError, match="the Checkpointer gave no answer") as caught:
            pin(lived_in, "1", pinned=True)
    assert caught.value.code == "NF-RUN-011"
    assert "may do it yet" in caught.value.hint


@pytest.mark.parametrize(
    "request_", [{"target": 7, "pinned": True}, {"target": "7"}, {"target": "x" * 300, "pinned": True}]
)
def test_a_request_that_is_not_right_is_refused_with_what_was_expected(
    lived_in: Path, request_: dict[str, object]
) -> None:
    with (
        LivingHouse(lived_in),
        pytest.raises(Refused, match='"request": "pin", "target": "42", "pinned": true or false'),
    ):
        ask(lived_in, {"request": "pin", **request_})


def test_what_is_not_kept_is_refused_and_nothing_is_changed(lived_in: Path) -> None:
    before = (lived_in / "state" / "HEAD").read_bytes()
    for target in ("99999", "2020-01-01", ""):
        with pytest.raises(OperatorError) as caught:
            pin(lived_in, target, pinned=True)
        assert caught.value.code == "NF-STATE-003"
    assert (lived_in / "state" / "HEAD").read_bytes() == before


# The dry run.


def foretold(home: Path, capsys: pytest.CaptureFixture[str], config: str) -> dict[str, Any]:
    (home / "nightfold.toml").write_text(config)
    return json_of(capsys, "doctor", str(home), "--what-would-be-deleted", "--json")


BOUNDED = CONFIG.replace("keep_generations = 4\n", "keep_generations = 2\nkeep_nights = 1\nsnapshots_bytes_max = 1\n")


def test_the_dry_run_changes_nothing_and_names_exactly_what_then_goes(
    lived_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lived_in / "nightfold.toml").write_text(BOUNDED)
    before = tree(lived_in)
    found = json_of(capsys, "doctor", str(lived_in), "--what-would-be-deleted", "--json")
    assert tree(lived_in) == before
    told = {one["path"] for one in found["going"] if one["kind"] in ("generation", "snapshot", "leftover")}
    sizes = {one["path"]: one["size_bytes"] for one in found["going"]}
    assert told
    for path in told:
        assert sizes[path] == sum(len(data) for name, data in before.items() if name.startswith(f"{path}/"))
    store = store_as_configured(Disk(lived_in), read_config(lived_in).take("checkpointer", CheckpointerSettings))
    store.open()
    assert set(store.prune().deleted) == told
    again = json_of(capsys, "doctor", str(lived_in), "--what-would-be-deleted", "--json")
    assert [one for one in again["going"] if one["kind"] in ("generation", "snapshot", "night")] == []


def test_the_dry_run_tells_what_stays_and_totals(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = foretold(lived_in, capsys, BOUNDED)
    stays = {(one["kind"], one["name"]): one["why"] for one in found["staying"]}
    head = head_of(lived_in)
    assert stays["generation", str(head.generation)] == "in force"
    assert stays["model", head.nights[0].night] == "in force"
    assert stays["delta", head.nights[0].night] == "the ledger is kept for ever"
    assert stays["snapshot", "2026-01-01"] == "the newest"
    assert stays["trained_file", "chats.jsonl"] == "no bound is set: they are kept for ever"
    totals = found["totals"]["generation"]
    assert totals["going"] + totals["staying"] == len(head.kept)
    assert totals["staying_bytes"] == sum(one["size_bytes"] for one in found["staying"] if one["kind"] == "generation")


def test_the_dry_run_tells_of_trained_files(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = CONFIG.replace("scan_every_seconds = 5.0\n", "scan_every_seconds = 5.0\nkeep_trained_files = 1\n")
    found = foretold(lived_in, capsys, config)
    assert [one["path"] for one in found["going"] if one["kind"] == "trained_file"] == [
        "trained/chats.jsonl",
        "trained/more.jsonl",
    ]


def test_the_page_of_the_dry_run(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lived_in / "nightfold.toml").write_text(BOUNDED)
    assert cli.main(["doctor", str(lived_in), "--what-would-be-deleted"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("would be deleted\n")
    assert "beyond the newest 2" in page
    assert "in force" in page
    with LivingHouse(lived_in):
        assert cli.main(["doctor", str(lived_in), "--what-would-be-deleted"]) == 0
    assert capsys.readouterr().out == page


def test_a_home_that_learnt_nothing_has_nothing_to_delete(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", str(home), "--what-would-be-deleted"]) == 0
    assert capsys.readouterr().out == "nothing would be deleted\n"


# What one can act on.


def test_history_says_what_each_generation_and_night_learnt(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(capsys, "history", str(lived_in), "--json")
    night = found["nights"][0]
    assert night["files"] == ["chats.jsonl", "more.jsonl"]
    assert night["steps"] == found["ledger"][0]["global_step"]
    assert (night["loss_before"], night["loss_after"]) == (1.0, 1.0)
    model = lived_in / night["model_path"]
    assert night["model_bytes"] == sum(path.stat().st_size for path in model.iterdir())
    assert night["size_bytes"] == night["model_bytes"] + night["delta_bytes"]
    last = found["generations"][-1]
    assert last["files"] == ["last.jsonl"]
    assert last["kept_because"] == "in force"
    assert last["steps"] == last["global_step"] - found["generations"][-2]["global_step"]
    cli.main(["history", str(lived_in)])
    assert "chats.jsonl, more.jsonl" in capsys.readouterr().out


def test_history_answers_though_the_config_is_wrong(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lived_in / "nightfold.toml").write_text("[checkpointer]\nkeep_generations = 0\n")
    found = json_of(capsys, "history", str(lived_in), "--json")
    assert found["generations"][0]["kept_because"] == ""


def kept(number: int, step: int, when: str) -> Kept:
    return Kept(number, generation_path(number), "", when, "", step, "a0001", step, "", (), 1)


def receipt(name: str, last: int, when: str) -> Receipt:
    return Receipt(name, name, "d", 1, 1, 1, 0, last, "a0001", 1, 0, 0, 2.0, 1.0, 1.0, when=when)


def test_after_a_rollback_each_branch_has_its_own_files() -> None:
    """Steps 21 to 50 were learnt twice, first with left.jsonl and after going back with new.jsonl."""
    head = Head(
        1,
        9,
        6,
        generation_path(6),
        "",
        "",
        "",
        kept=(
            kept(2, 20, "2026-01-01T02:00:00"),
            kept(5, 50, "2026-01-01T05:00:00"),
            kept(6, 45, "2026-01-01T07:00:00"),
        ),
        went_back=WentBack(to=2, left=5, when="2026-01-01T06:00:00"),
    )
    receipts = [
        receipt("first", 20, "2026-01-01T01:59:00"),
        receipt("left", 44, "2026-01-01T04:00:00"),
        receipt("new", 44, "2026-01-01T06:30:00"),
    ]
    found = by_generation(head, receipts)
    assert {number: one.files for number, one in found.items()} == {2: ("first",), 5: ("left",), 6: ("new",)}
    assert [one.steps for one in found.values()] == [20, 30, 25]
    assert (found[6].loss_before, found[6].loss_after) == (2.0, 1.0)


def test_a_night_has_the_files_since_the_night_before_it() -> None:
    names = ("20260101T030000", "20260102T030000")
    deltas = tuple(Delta(name, "", "", "", 10 * place, place) for place, name in enumerate(names, 1))
    head = Head(
        1,
        9,
        4,
        generation_path(4),
        "",
        "",
        "",
        names,
        deltas,
        kept=tuple(
            replace(kept(number, 5 * number, f"2026-01-0{number}T03:00:00"), ledger=names[: number // 2])
            for number in range(1, 5)
        ),
        nights=(
            Night(names[0], 2, 1, "", "2026-01-02T03:00:00"),
            Night(names[1], 4, 3, "", "2026-01-04T03:00:00"),
        ),
    )
    receipts = [receipt("a", 10, "2026-01-01T12:00:00"), receipt("b", 20, "2026-01-03T12:00:00")]
    assert {night: one.files for night, one in by_night(head, receipts).items()} == {names[0]: ("a",), names[1]: ("b",)}


# Going back.


def test_rollback_to_a_snapshot_and_back(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = head_of(lived_in)
    assert rollback(lived_in, "2026-01-01") == 0
    now = head_of(lived_in)
    assert now.in_force.why == "snapshot 2026-01-01"
    assert now.generation > max(one.generation for one in before.kept)
    assert (now.went_back or pytest.fail("forgotten")).left == before.generation
    assert rollback(lived_in, str(before.generation)) == 0
    assert head_of(lived_in).in_force == before.in_force
    capsys.readouterr()
    assert json_of(capsys, "history", str(lived_in), "--json")["went_back"] is None, "it was undone at once"


def test_the_way_back_from_a_rollback_stays_however_many_commits_come(lived_in: Path) -> None:
    before = head_of(lived_in)
    assert rollback(lived_in, str(before.kept[0].generation)) == 0
    store = store_as_configured(Disk(lived_in), read_config(lived_in).take("checkpointer", CheckpointerSettings))
    store.open()
    for step in range(100, 110):
        store.commit(
            {"adapter_model.safetensors": b"x"},
            LearningState(global_step=step, adapter_id="a0009", adapter_step=step),
            "test",
            "2026-02-01T00:00:00",
        )
        store.prune()
    assert rollback(lived_in, str(before.generation)) == 0
    assert head_of(lived_in).in_force == before.in_force
