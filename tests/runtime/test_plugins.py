"""A plug-in is found by what the config says, or refused in one line that says why."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from messages import TrainingProgress
from messages.codes import CODES
from runtime import Actor, DeadLetter, OperatorError
from runtime.errors import EXIT_CONFIG
from runtime.plugins import ENTRY_POINTS, find_actor, plugin_branch

PLUGIN = """
import msgspec
from runtime import Actor, on
from messages import TrainingProgress

class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    times: int = 1

class Hook(Actor):
    settings: Settings

    @on
    async def told(self, message: TrainingProgress) -> None: ...

class Sync(Actor):
    @on
    def told(self, message: TrainingProgress) -> None: ...

not_a_class = 3
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a plug-in in it, and broken ones."""
    (tmp_path / "a_plugin_of_mine.py").write_text(PLUGIN)
    (tmp_path / "a_broken_plugin.py").write_text("class Oops(:\n")
    (tmp_path / "a_raising_plugin.py").write_text("open('/no/such/file')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("a_plugin_of_mine", "a_broken_plugin", "a_raising_plugin"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [
        ("no_such_module:Hook", "NF-RUN-001", "No module named 'no_such_module'"),
        ("a_plugin_of_mine:Missing", "NF-RUN-001", "has no attribute 'Missing'"),
        ("a_plugin_of_mine:not_a_class", "NF-RUN-001", "3 is not a subclass of runtime.Actor"),
        ("a_plugin_of_mine:Settings", "NF-RUN-001", "is not a subclass of runtime.Actor"),
        ("a_broken_plugin:Oops", "NF-RUN-001", "SyntaxError"),
        ("a_raising_plugin:Hook", "NF-RUN-001", "FileNotFoundError"),
        (":Hook", "NF-RUN-001", "Empty module name"),
        ("hook", "NF-RUN-001", "no entry point of that name in the group nightfold.actors"),
        ("a_plugin_of_mine:Sync", "NF-RUN-002", "Sync.told must be 'async def'"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_an_operators_mistake(spec: str, code: str, words: str) -> None:
    with pytest.raises(OperatorError) as caught:
        find_actor(spec, "hook")
    assert caught.value.code == code
    assert caught.value.exit_code == EXIT_CONFIG
    assert caught.value.what.startswith(f"[plugins.hook] actor = {spec!r}: ")
    assert words in caught.value.what
    assert code in CODES


@pytest.mark.usefixtures("plugin")
def test_plugins_live_in_an_isolated_branch_as_observers_that_nobody_waits_for() -> None:
    branch = plugin_branch({"hook": {"actor": "a_plugin_of_mine:Hook", "url": "http://x"}})
    assert (branch.name, branch.isolate, branch.strategy) == ("plugins", True, "one_for_one")
    (child,) = branch.children
    assert child.name == "plugins.hook"
    assert child.settings.url == "http://x"  # type: ignore[union-attr]
    assert child.mailbox.overflow == "dead_letter"  # type: ignore[union-attr]
    assert child.mailbox.latest == (TrainingProgress,)  # type: ignore[union-attr]
    assert isinstance(child.on_crash, DeadLetter)  # type: ignore[union-attr]


@pytest.mark.usefixtures("plugin")
def test_a_plugins_settings_are_checked_like_any_other() -> None:
    with pytest.raises(OperatorError, match="ur"):
        plugin_branch({"hook": {"actor": "a_plugin_of_mine:Hook", "ur": "http://x"}})


def test_a_plugin_is_found_by_its_entry_point(plugin: Path) -> None:
    info = plugin / "a_plugin_of_mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin-of-mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{ENTRY_POINTS}]\nmy-hook = a_plugin_of_mine:Hook\nbroken = a_broken_plugin:Oops\n"
    )
    importlib.invalidate_caches()
    found = find_actor("my-hook", "hook")
    assert issubclass(found, Actor)
    assert found.__name__ == "Hook"
    with pytest.raises(OperatorError, match=r"known: broken, my-hook"):
        find_actor("other", "hook")
    with pytest.raises(OperatorError, match="SyntaxError"):
        find_actor("broken", "hook")
