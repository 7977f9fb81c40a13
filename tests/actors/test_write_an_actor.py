"""The page "write an actor in ten minutes" is true: its plug-in loads, its test passes, its sections are right."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from runtime.actor import handlers_of
from runtime.tree import children_of
from tools.house import house, read_config, silent_parts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "actors" / "WRITE_AN_ACTOR.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the page's plug-in and sections."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "hard_files.py").write_text(blocks("python")[0])
    (tmp_path / "nightfold.toml").write_text("\n".join(blocks("toml")))
    return tmp_path


def test_its_class_and_its_sections_make_a_house(home: Path) -> None:
    tree = house(read_config(home), silent_parts(lambda: None, lambda: None))  # type: ignore[arg-type, return-value]
    found = {child.name: child for child in children_of(tree) if child.name.startswith("plugins.")}
    assert sorted(found) == ["plugins.bell", "plugins.hard_files", "plugins.vllm"]
    mine = found["plugins.hard_files"]
    assert {kind.__name__ for kind in handlers_of(mine.actor)} == {"BatchTrained", "StayedHard"}
    assert mine.settings.loss_max == 1.5


def test_its_test_passes_and_can_fail(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(home / "plugins"))
    monkeypatch.delitem(sys.modules, "hard_files", raising=False)
    names: dict[str, object] = {"__name__": "test_hard_files"}
    monkeypatch.setitem(sys.modules, "test_hard_files", type(sys)("test_hard_files"))
    source = blocks("python")[1]
    vars(sys.modules["test_hard_files"]).update(names)
    # The annotations of the actor inside are resolved where it says it was defined.
    exec(compile("from __future__ import annotations\n" + source, "page", "exec"), vars(sys.modules["test_hard_files"]))
    test = vars(sys.modules["test_hard_files"])["test_hard_files_are_told_once_an_hour"]
    test()
    monkeypatch.setattr(sys.modules["hard_files"].HardFiles, "on_start", lambda _: _starts_with("x.jsonl", _))
    with pytest.raises(AssertionError):
        test()
    sys.modules.pop("hard_files")


async def _starts_with(name: str, actor: object) -> None:
    vars(actor)["names"] = [name]


def test_what_it_points_to_is_there() -> None:
    for path in re.findall(r"`((?:tests|actors)/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).is_file(), path
