"""What a person's commands do to a home, killed with SIGKILL at each of its system calls in turn, on real files.

They do not go through the disk port, for no daemon need be there; so a child process is forked for each call, and an
audit hook kills it right before that call. Only killing is tried here: the page cache survives, and so do un-synced
names.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.commands.init import init
from tools.commands.retry import retry
from tools.commands.submit import submit

CALLS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir")
DATA = "".join(f'{{"text": "line {number}"}}\n' for number in range(5000))


def killed_at(home: Path, number: int, command: Callable[[], object]) -> bool:
    """Run the command in a child that dies at its ``number``-th call on the home; ``False`` if it ends before."""
    child = os.fork()
    if child == 0:
        left = number

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in CALLS and any(str(home) in str(each) for each in arguments):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            with Path(os.devnull).open("w") as nowhere:
                sys.stdout = sys.stderr = nowhere
                sys.addaudithook(hook)
                command()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def each_kill(tmp_path: Path, prepare: Callable[[Path], None], command: Callable[[Path], object]) -> Iterator[Path]:
    """A home killed at the first call, at the second, and so on until the command came to its end."""
    for number in range(1, 60):
        home = tmp_path / str(number)
        prepare(home)
        if not killed_at(home, number, lambda home=home: command(home)):  # type: ignore[misc]
            assert number > 2
            return
        yield home
    pytest.fail("the command never came to its end")


def a_home(home: Path) -> None:
    for folder in ("inbox", "failed", "rejected", "state"):
        (home / folder).mkdir(parents=True)
    (home / "nightfold.toml").write_text("")
    (home / "mine").mkdir()
    (home / "mine" / "chats.jsonl").write_text(DATA)


def test_a_submit_killed_at_any_call_shows_the_file_whole_or_not_at_all(tmp_path: Path) -> None:
    def command(home: Path) -> int:
        return submit(home, [home / "mine" / "chats.jsonl"])

    for home in each_kill(tmp_path, a_home, command):
        assert (home / "mine" / "chats.jsonl").read_text() == DATA
        seen = [path for path in (home / "inbox").iterdir() if not path.name.startswith(".")]
        assert all(path.read_text() == DATA for path in seen), home.name
        assert command(home) == 0, "the next try gets it in"
        assert DATA in [path.read_text() for path in (home / "inbox").glob("[!.]*.jsonl")]


def test_a_retry_killed_at_any_call_never_loses_the_file_nor_leaves_it_without_its_report(tmp_path: Path) -> None:
    def prepare(home: Path) -> None:
        a_home(home)
        (home / "failed" / "chats.jsonl").write_text(DATA)
        (home / "failed" / "chats.jsonl.report.json").write_text("{}")

    for home in each_kill(tmp_path, prepare, lambda home: retry(home, ["chats.jsonl"])):
        failed, waiting = home / "failed" / "chats.jsonl", home / "inbox" / "chats.jsonl"
        assert failed.exists() or waiting.exists(), f"lost at {home.name}"
        assert all(path.read_text() == DATA for path in (failed, waiting) if path.exists())
        if failed.exists():
            assert (home / "failed" / "chats.jsonl.report.json").exists()


def test_an_init_killed_at_any_call_can_be_repeated(tmp_path: Path) -> None:
    def prepare(home: Path) -> None:
        home.parent.mkdir(exist_ok=True)

    for home in each_kill(tmp_path, prepare, lambda home: init(home, "org/name", tiny=False)):
        config = home / "nightfold.toml"
        if not config.exists():
            assert init(home, "org/name", tiny=False) == 0
        assert 'model = "org/name"' in config.read_text(), "a config that is there is whole"
        assert (home / "inbox").is_dir()
