"""README says of every config key, status field, command and exit code what the code says, and its plug-in works."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import time
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from actors.status_reporter.page import BatchLine, DiskLine, ErrorLine, Page
from runtime import errors
from runtime.actor import handlers_of, settings_type
from tools.cli import _parser
from tools.house import SECTIONS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SAID_IN_WORDS = {"alpha", "max_length"}
"""Their default is none, which means something that the table says."""


def config_table() -> dict[str, tuple[str, str]]:
    """Key -> its section and its default, as the table has them."""
    found: dict[str, tuple[str, str]] = {}
    section = ""
    part = README[README.index("## Config") : README.index("## For programs")]
    for line in part.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if heading := re.match(r"\*\*\[(\w+)\]\*\*", cells[0]):
            section = heading[1]
        elif section and len(cells) == 3:
            keys, defaults = cells[0].split(", "), cells[1].split(", ")
            found |= {key.strip("`"): (section, default) for key, default in zip(keys, defaults, strict=len(keys) > 1)}
    return found


def as_written(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool | str):
        return f"`{msgspec.json.encode(value).decode()}`"
    return f"`{value.isoformat() if isinstance(value, time) else value}`"


def test_every_config_key_stands_there_with_its_default() -> None:
    table = config_table()
    expected = {
        field.name: (section, as_written(field.default))
        for section, kind in SECTIONS.items()
        for field in msgspec.structs.fields(kind)
    }
    assert sorted(table) == sorted(expected)
    for key, (section, default) in table.items():
        # 2e-4 is how a person writes it.
        plain = as_written(float(default.strip("`"))) if key == "learning_rate" else default
        if key not in SAID_IN_WORDS:
            assert (section, plain) == expected[key], key


@pytest.mark.parametrize("kind", [Page, BatchLine, DiskLine, ErrorLine])
def test_every_status_field_is_explained(kind: type[msgspec.Struct]) -> None:
    part = README[README.index("## For programs") : README.index("## What lies in a home")]
    assert [field for field in kind.__struct_fields__ if f"`{field}`" not in part] == []


def test_every_command_and_every_exit_code_is_listed() -> None:
    [commands] = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    part = README[README.index("## Commands") : README.index("## Config")]
    assert [name for name in commands.choices if f"`{name} " not in part] == []
    codes = [value for name, value in vars(errors).items() if name.startswith("EXIT_")]
    assert [code for code in codes if f"| {code} |" not in part] == []


def test_its_plug_in_is_one() -> None:
    source = README[README.index("```python\n") + len("```python\n") :].partition("```")[0]
    module = ModuleType("night_bell")
    # Annotations are resolved where the class says it was defined.

    sys.modules["night_bell"] = module
    try:
        exec(compile(source, "README.md", "exec"), module.__dict__)
        handled = {message.__name__ for message in handlers_of(module.NightBell)}
        assert handled == {"BatchTrained", "NightFinished"}
        assert settings_type(module.NightBell) is module.NightBellSettings
    finally:
        del sys.modules["night_bell"]
