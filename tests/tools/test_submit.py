"""submit and retry: a file is never seen half-written, never replaces another and is never lost."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Never

import pytest

from actors.inbox_watcher.filing import paper_name
from runtime.errors import OperatorError
from tools.commands import submit as module
from tools.commands.retry import retry
from tools.commands.submit import submit


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    file = tmp_path / "chats.jsonl"
    file.write_text('{"text": "a"}\n')
    return file


def inbox(home: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (home / "inbox").iterdir()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(home: Path, *files: Path) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        submit(home, list(files))
    return caught.value


def test_submit_copies_and_says_that_no_daemon_runs(
    home: Path, chats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(home, [chats]) == 0
    assert inbox(home) == {"chats.jsonl": '{"text": "a"}\n'}
    assert chats.exists()
    out = capsys.readouterr().out
    assert "submitted chats.jsonl\n" in out
    assert "nightfold run" in out


@pytest.mark.real
def test_f6_a_name_that_waits_already_is_numbered_and_never_replaced(home: Path, chats: Path) -> None:
    submit(home, [chats])
    chats.write_text("second\n")
    submit(home, [chats])
    chats.write_text("third\n")
    submit(home, [chats])
    assert inbox(home) == {
        "chats.jsonl": '{"text": "a"}\n',
        "chats.2.jsonl": "second\n",
        "chats.3.jsonl": "third\n",
    }


@pytest.mark.real
def test_f4_the_file_has_its_own_name_only_when_it_is_whole_and_durable(
    home: Path, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    real = os.fsync

    def look(handle: int) -> None:
        seen.append(names(home / "inbox"))
        real(handle)

    monkeypatch.setattr(os, "fsync", look)
    submit(home, [chats])
    assert seen == [[".chats.jsonl.part"], ["chats.jsonl"]]


def test_a_file_dropped_in_the_last_moment_is_not_replaced(
    home: Path, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.put_in_place

    def drop_first(path: Path, target: Path) -> None:
        if target.name == "chats.jsonl":
            target.write_text("dropped by hand\n")
        real(path, target)

    monkeypatch.setattr(module, "put_in_place", drop_first)
    submit(home, [chats])
    assert inbox(home) == {"chats.jsonl": "dropped by hand\n", "chats.2.jsonl": '{"text": "a"}\n'}


@pytest.mark.parametrize("links", [True, False])
def test_put_in_place_never_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def no_links(*_paths: object, **_how: object) -> Never:
        raise OSError(errno.EPERM, "no links on this file system")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileExistsError):
        module.put_in_place(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "b"
    module.put_in_place(tmp_path / "a", tmp_path / "c")
    assert names(tmp_path) == ["b", "c"]


@pytest.mark.real
def test_d5_a_copy_that_fails_leaves_nothing_behind(home: Path, chats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> Never:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    error = refused(home, chats)
    assert (error.code, error.exit_code) == ("NF-CONF-010", 74)
    assert "No space left" in error.what
    assert inbox(home) == {}


def test_what_a_killed_submit_left_is_used_again_once_it_is_old(home: Path, chats: Path) -> None:
    left = home / "inbox" / ".chats.jsonl.part"
    left.write_text("half")
    submit(home, [chats])
    assert sorted(inbox(home)) == [".chats.jsonl.part", "chats.2.jsonl"], "young: somebody may be writing it"
    hour_ago = time.time() - 3600
    os.utime(left, (hour_ago, hour_ago))
    submit(home, [chats])
    assert sorted(inbox(home)) == ["chats.2.jsonl", "chats.jsonl"]


def test_one_bad_argument_and_none_is_copied(home: Path, chats: Path, tmp_path: Path) -> None:
    for name, words in (
        ("missing.jsonl", "no such file"),
        ("folder.jsonl", "not a regular file"),
        ("notes.txt", "does not end in .jsonl"),
        (".hidden.jsonl", "begin with a dot"),
    ):
        path = tmp_path / name
        if name == "folder.jsonl":
            path.mkdir()
        elif name != "missing.jsonl":
            path.touch()
        error = refused(home, chats, path)
        assert (error.code, error.exit_code) == ("NF-CONF-003", 2)
        assert words in error.what
    inside = home / "inbox" / "inside.jsonl"
    inside.touch()
    assert "lies in the inbox already" in refused(home, chats, inside).what
    assert inbox(home) == {"inside.jsonl": ""}


@pytest.mark.parametrize("name", ["-dash", "new\nline", "😀" * 62, "x" * 249, "\udcff"])
@pytest.mark.real
def test_f7_odd_names_are_taken(home: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.jsonl"
    file.write_text("{}\n")
    submit(home, [file])
    submit(home, [file])
    taken = inbox(home)
    assert len(taken) == 2
    assert all(each.startswith(name[:20]) and each.endswith(".jsonl") for each in taken)


@pytest.mark.real
def test_t3_retry_moves_the_file_and_takes_its_report_away(home: Path) -> None:
    for folder in ("failed", "rejected"):
        (home / folder / f"{folder}.jsonl").write_text(folder)
        (home / folder / f"{folder}.jsonl.report.json").write_text("{}")
    assert retry(home, ["failed.jsonl", "rejected/rejected.jsonl"]) == 0
    assert inbox(home) == {"failed.jsonl": "failed", "rejected.jsonl": "rejected"}
    assert names(home / "failed") == names(home / "rejected") == []


def test_retry_refuses_what_is_missing_double_or_waiting(home: Path) -> None:
    def told(*names: str) -> OperatorError:
        with pytest.raises(OperatorError) as caught:
            retry(home, list(names))
        assert (caught.value.code, caught.value.exit_code) == ("NF-CONF-004", 2)
        return caught.value

    assert "nothing to try again" in told("chats.jsonl").hint
    (home / "failed" / "chats.jsonl").write_text("failed")
    (home / "failed" / "chats.jsonl.report.json").write_text("{}")
    missing = told("chat.jsonl")
    assert "no file chat.jsonl lies in failed/ or rejected/" in missing.what
    assert "chats.jsonl" in missing.hint
    told("chats.jsonl.report.json")
    told("../failed/../chats.jsonl.report.json")
    (home / "rejected" / "chats.jsonl").write_text("rejected")
    assert "failed/chats.jsonl" in told("chats.jsonl").hint
    (home / "inbox" / "chats.jsonl").write_text("waiting")
    assert "waits in the inbox already" in told("failed/chats.jsonl").what
    assert inbox(home) == {"chats.jsonl": "waiting"}
    assert (home / "failed" / "chats.jsonl.report.json").exists()


def test_retry_looks_at_all_names_before_it_moves_the_first(home: Path) -> None:
    (home / "failed" / "a.jsonl").touch()
    with pytest.raises(OperatorError):
        retry(home, ["a.jsonl", "b.jsonl"])
    assert inbox(home) == {}


def test_a_retry_that_was_killed_between_the_two_names_is_finished_by_the_next(home: Path) -> None:
    lies = home / "failed" / "chats.jsonl"
    lies.write_text("the file\n")
    lies.with_name("chats.jsonl.report.json").write_text("{}")
    os.link(lies, home / "inbox" / "chats.jsonl")
    assert retry(home, ["chats.jsonl"]) == 0
    assert inbox(home) == {"chats.jsonl": "the file\n"}
    assert names(home / "failed") == []


def test_f7_a_retry_of_a_file_with_the_longest_name_takes_its_report_along(home: Path) -> None:
    long = "n" * 249 + ".jsonl"
    (home / "failed" / long).write_text("text")
    (home / "failed" / paper_name(long, "report")).write_text("{}")
    assert retry(home, [long]) == 0
    assert names(home / "failed") == []
    assert names(home / "inbox") == [long]
