"""history: what HEAD and the receipts say, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.errors import OperatorError
from tests.tools.simulated_home import lived_in_home
from tools.commands.history import history, size


def test_json_tells_generations_nights_ledger_snapshots_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert history(lived_in_home(tmp_path), as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    numbers = [one["generation"] for one in found["generations"]]
    assert numbers == sorted(numbers)
    assert found["in_force"] == numbers[-1]
    assert [one["generation"] for one in found["generations"] if one["in_force"]] == [found["in_force"]]
    assert len(found["nights"]) == len(found["ledger"]) == 1
    assert found["nights"][0]["night"] == found["ledger"][0]["night"]
    assert found["nights"][0]["generation"] in numbers
    assert found["snapshots"][0]["day"] == "2026-01-01"
    assert [one["name"] for one in found["files"]] == ["last.jsonl", "more.jsonl", "chats.jsonl"]
    assert found["files"][0]["last_global_step"] == found["generations"][-1]["global_step"]
    assert found["files_trained"] == 3


def test_the_page_marks_what_is_in_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history(lived_in_home(tmp_path), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    kept = lines[1 : lines.index("")]
    assert [line.startswith("*") for line in kept] == [False] * (len(kept) - 1) + [True]
    assert any("chats.jsonl" in line for line in lines)
    assert any(line.startswith("go back with: nightfold rollback") for line in lines)


def test_a_home_that_learnt_nothing_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert history(home, as_json=False) == 0
    out = capsys.readouterr().out
    assert "nothing was committed yet" in out
    assert "no file was trained yet" in out


def test_a_damaged_head_is_said_to_be_damaged(tmp_path: Path) -> None:
    made = lived_in_home(tmp_path)
    (made / "state" / "HEAD").write_text('{"schema": 1, "number": ')
    with pytest.raises(OperatorError) as caught:
        history(made, as_json=False)
    assert caught.value.code == "NF-STATE-006"


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    made = lived_in_home(tmp_path)
    head = json.loads((made / "state" / "HEAD").read_text())
    (made / "state" / "HEAD").write_text(json.dumps({**head, "schema": 99}))
    with pytest.raises(OperatorError) as caught:
        history(made, as_json=True)
    assert caught.value.code == "NF-STATE-004"


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (2300, "2.3 kB"), (250_000_000, "250 MB"), (7e12, "7,000.0 GB")]
)
def test_sizes(count: float, words: str) -> None:
    assert size(count) == words
