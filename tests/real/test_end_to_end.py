"""Small stories that need the whole daemon: a plug-in that raises, odd names and bad lines all the way through."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.real.conftest import Live
from tests.real.daemons import Home, command, lesson

pytestmark = pytest.mark.real

PLUGIN = """\
from messages import BatchAccepted, BatchTrained, DiskMeasured, GenerationCommitted, TrainerReady, TrainingProgress
from runtime import Actor, on


class Raises(Actor):
    @on
    async def anything(
        self,
        message: BatchAccepted | BatchTrained | DiskMeasured | GenerationCommitted | TrainerReady | TrainingProgress,
    ) -> None:
        raise ValueError("this plug-in was never tried")
"""


def test_a3_a_plugin_that_raises_on_every_message_is_disabled_and_training_goes_on(
    home: Home, live: Live, tmp_path: Path
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "a_raising_plugin_for_tests.py").write_text(PLUGIN)
    home.configure(**{"plugins.bad": {"actor": "a_raising_plugin_for_tests:Raises"}})
    home.drop("first.jsonl", lesson(1, 40))
    daemon = live("run", home.path, path=(tmp_path / "plugins",))

    def is_disabled() -> bool:
        if not home.has("status/actors.json"):
            return False
        states = {actor["name"]: actor["state"] for actor in home.json("status/actors.json")["actors"]}
        return states.get("plugins.bad") == "disabled"

    daemon.until("disabled", is_disabled)
    home.drop("second.jsonl", lesson(2, 4))
    daemon.until("trained after that", lambda: home.has("trained/second.jsonl"))
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0, daemon.said
    assert home.has("trained/first.jsonl")
    [told] = home.events("ActorGaveUp")
    assert (told["actor"], told["disabled"]) == ("plugins.bad", True)
    crashes = home.events("ActorCrashed")
    assert {crash["actor"] for crash in crashes} == {"plugins.bad"}, "no other actor was disturbed"
    assert "this plug-in was never tried" in crashes[0]["why"]


def test_a3_a_plugin_that_is_not_there_is_refused_at_once(home: Home) -> None:
    home.configure(**{"plugins.bad": {"actor": "no_such_module:Class"}})
    refused = command("run", home.path)
    assert refused.returncode == 78
    assert "NF-RUN-001" in refused.stderr
    assert "[plugins.bad]" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_f7_f10_odd_names_and_bad_lines_all_the_way_through(home: Home, live: Live) -> None:
    home.configure(validator={"bad_lines": "train_good_lines"})
    mixed = [*lesson(1, 3), "not JSON", "", {"prompt": 3}, *lesson(2, 3)]
    names = ("new\nline 🦋.jsonl", "--help.jsonl", "x" * 249 + ".jsonl", "caf?.jsonl")
    for name in names:
        home.drop(name.replace("?", "\udce9"), mixed)  # a byte that is no text, which is told as a question mark
    (home.path / "inbox" / "link.jsonl").symlink_to("/etc/passwd")
    daemon = live("run", home.path, "--until-idle")
    assert daemon.end() == 3, daemon.said
    assert home.events("ActorCrashed") == []
    for name in names:
        assert home.has(f"trained/{name}"), daemon.said
    receipts = [json.loads(path.read_text()) for path in (home.path / "trained").glob("*.receipt.json")]
    assert sorted(receipt["name"] for receipt in receipts) == sorted(names)
    for receipt in receipts:
        assert (receipt["examples"], receipt["steps"], receipt["line_error_count"]) == (6, 3, 2)
        assert [error["line"] for error in receipt["line_errors"]] == [4, 6]
    assert home.json("rejected/link.jsonl.report.json")["trouble"]["code"] == "NF-DATA-004"
    assert "\nline 🦋" not in daemon.said, "a name must not break the lines of the terminal"
    for words in (("status",), ("status", "--json")):
        told = command(words[0], home.path, *words[1:])
        assert told.returncode == 0, told.stderr
