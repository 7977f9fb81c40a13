"""A plug-in is found by what the config says, or refused in one line that says why."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import msgspec
import pytest

from messages import BatchTrained, DiskMeasured, InboxSurveyed, Receipt, TrainingProgress
from messages.codes import CODES
from runtime import Actor, DeadLetter, OperatorError, trace_files
from runtime.errors import EXIT_CONFIG
from runtime.plugin_files import located, unused_files
from runtime.plugins import ENTRY_POINTS, check_plugins, find_actor, plugin_branch
from runtime.trace import Record
from runtime.tree import Branch, Child
from tests.actors.stage import Stage
from tools.house import default_config, house, read_config, silent_parts
from tools.replay import replay_command

PLUGIN = """
import msgspec
from runtime import Actor, every, on
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

class Needy(Actor):
    def __init__(self, friend): ...

class Urgent(Actor):
    @on(control=True)
    async def told(self, message: TrainingProgress) -> None: ...

class Timed(Actor):
    @every("often")
    async def look(self) -> None: ...

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
        ("a_plugin_of_mine:Needy", "NF-RUN-002", "missing a required argument: 'friend'"),
        ("a_plugin_of_mine:Urgent", "NF-RUN-002", "Urgent.told asks for the control lane"),
        ("a_plugin_of_mine:Timed", "NF-RUN-002", "Timed.look is timed by 'often', which is no setting"),
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
    assert child.mailbox.latest == (TrainingProgress, DiskMeasured, InboxSurveyed)  # type: ignore[union-attr]
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


# A file in the home.

BELL = """from __future__ import annotations

import msgspec
from messages import BatchTrained, Message
from runtime import Actor, every, on


class Rang(Message, frozen=True):
    times: int


class BellSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    loud: bool = False


class Bell(Actor):
    settings: BellSettings

    @on
    async def trained(self, done: BatchTrained) -> None:
        await self.send(Rang(times=1))

    @on
    async def rang(self, message: Rang) -> None: ...
"""


def home_with(folder: Path, **files: str) -> Path:
    (folder / "plugins").mkdir()
    for name, text in files.items():
        (folder / "plugins" / f"{name}.py").write_text(text)
    return folder


def from_file(home: Path, spec: str) -> type[Actor]:
    tables = located({"bell": {"actor": spec}}, home)
    return find_actor(tables["bell"]["actor"], "bell")


def test_a_file_in_the_home_is_a_plug_in_and_the_path_of_modules_stays_as_it_is(tmp_path: Path) -> None:
    home = home_with(tmp_path, json=BELL)  # named like a module of Python's own
    before = list(sys.path)
    for spec in ("json.py:Bell", "json.py"):
        found = from_file(home, spec)
        assert (found.__name__, found.__module__) == ("Bell", "nightfold_plugin_json")
    assert sys.path == before
    assert sys.modules["json"].__name__ == "json"
    assert not (home / "plugins" / "__pycache__").exists()


def test_its_messages_come_back_to_life_from_a_trace(tmp_path: Path) -> None:
    kind = from_file(home_with(tmp_path, chime=BELL), "chime.py")
    rang = sys.modules[kind.__module__].Rang(times=3)
    [back] = trace_files.decode(trace_files.encode([Record(1, 0.0, "sent", 1, 0, "a", "b", "Rang", 0, 0, rang)]))
    assert trace_files.revive(back.body) == rang
    assert from_file(tmp_path, "chime.py") is kind, "two sections share one module, and so its messages"


@pytest.mark.parametrize(
    ("text", "spec", "code", "words"),
    [
        ("x = 1\nclass Oops(:\n", "bell.py", "NF-RUN-001", "plugins/bell.py:2: SyntaxError: invalid syntax"),
        ("import msgspec\n\n1 / 0\n", "bell.py", "NF-RUN-001", "plugins/bell.py:3: ZeroDivisionError"),
        ("def f():\n    import nowhere\nf()\n", "bell.py", "NF-RUN-001", "bell.py:2: ModuleNotFoundError: No module"),
        (BELL, "bell.py:Gong", "NF-RUN-001", "plugins/bell.py has no class 'Gong'; it has Bell"),
        (BELL, "bell.py:Rang", "NF-RUN-001", "plugins/bell.py: Rang is not a subclass of runtime.Actor"),
        (BELL + "class Gong(Bell): ...\n", "bell.py", "NF-RUN-001", "defines 2 actors; it has Bell, Gong"),
        ("x = 1\n", "bell.py", "NF-RUN-001", "plugins/bell.py defines no subclass of runtime.Actor"),
        (BELL, "gong.py", "NF-RUN-001", "plugins/gong.py: No such file"),
        (BELL, "../bell.py", "NF-RUN-001", "a file plug-in lies in plugins/ itself, not in .."),
        (BELL.replace("    async def rang", "    def rang"), "bell.py", "NF-RUN-002", "plugins/bell.py:23)"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, text: str, spec: str, code: str, words: str
) -> None:
    with pytest.raises(OperatorError) as caught:
        from_file(home_with(tmp_path, bell=text), spec)
    assert (caught.value.code, caught.value.exit_code) == (code, EXIT_CONFIG)
    assert words in str(caught.value)


def test_a_file_that_no_section_names_is_not_run_and_is_told(tmp_path: Path) -> None:
    home = home_with(tmp_path, bell=BELL, dropped="raise SystemExit", _draft="", other=BELL)
    tables = {"a": {"actor": "bell.py:Bell"}, "b": {"actor": "some.module:Class"}}
    assert unused_files(tables, home) == ["plugins/dropped.py", "plugins/other.py"]
    assert unused_files({}, tmp_path / "nowhere") == []


# Among the others.


def test_what_a_plug_in_cannot_do_among_the_others_is_refused_before_anything_starts(tmp_path: Path) -> None:
    text = """
from messages import Message, SpaceGranted, SpaceNeeded, SpaceRefused, StateWanted
from runtime import Actor, on

class Unheard(Message, frozen=True): ...

class Answers(Actor):
    @on
    async def grant(self, asked: SpaceNeeded) -> SpaceGranted | SpaceRefused: ...

class Speaks(Actor):
    async def on_start(self) -> None:
        await self.send(Unheard())
"""
    home = home_with(tmp_path, meddler=text)
    for name, words in (("Answers", "SpaceNeeded is answered by several: disk_guard, "), ("Speaks", "sends Unheard")):
        tables = located({"meddler": {"actor": f"meddler.py:{name}"}}, home)
        config = msgspec.structs.replace(default_config(), plugins=tables)
        with pytest.raises(OperatorError) as caught:
            house(config, silent_parts(lambda: None, lambda: None))  # type: ignore[arg-type, return-value]
        assert caught.value.code == "NF-RUN-002"
        assert words in str(caught.value)


def test_a_tree_without_plug_ins_is_checked_by_the_system_alone() -> None:
    check_plugins(Branch("root", (Child("a", Actor), Child("a", Actor))))


def test_a_file_plug_in_is_replayed_and_so_are_its_own_messages(tmp_path: Path) -> None:
    home = home_with(tmp_path, replayed=BELL)
    (home / "nightfold.toml").write_text('[plugins.bell]\nactor = "replayed.py"\nloud = true\n')
    receipt = Receipt("", "", "", 10, 2, 20, 1, 20, "a0001", 1, 1, 0, 2.0, 1.0, 1.0)

    async def act(on: Stage) -> None:
        for number in range(5):
            await on.tell(BatchTrained(f"{number:06d}", "a.jsonl", receipt))
            await on.rest(60)

    stage = Stage(plugin_branch(read_config(home).plugins)).play(act)  # type: ignore[arg-type]
    (home / "status" / "trace").mkdir(parents=True)
    (home / "status" / "trace" / "000001.trace").write_bytes(trace_files.encode(stage.system.trace.since(0)))
    del sys.modules["nightfold_plugin_replayed"]  # as in another process
    agrees, lines = replay_command(home, "bell")
    assert agrees, lines
    assert "replay agrees: 10 messages in, 5 out" in lines
    text = (home / "plugins" / "replayed.py").read_text()
    (home / "plugins" / "replayed.py").write_text(text.replace("Rang(times=1)", "Rang(times=2)"))
    agrees, lines = replay_command(home, "bell")
    assert not agrees
    assert "Rang.times" in "\n".join(lines), lines
