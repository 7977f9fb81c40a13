"""Every key of the config can be written down, not only left out."""

from __future__ import annotations

from datetime import time
from typing import Any

import msgspec
import pytest

from runtime.settings import compose
from tools.house import SECTIONS


def _written(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float() | time():
            return str(value)
        case str():
            return f'"{value}"'
        case list() | tuple():
            return "[" + ", ".join(map(_written, value)) + "]"
    raise AssertionError(f"no default of this kind is known: {value!r}")


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_a_section_with_every_key_at_its_default_is_the_section_left_out(section: str) -> None:
    left_out = compose("", SECTIONS, file="x").take(section, SECTIONS[section])
    lines = [
        f"{field.name} = {_written(getattr(left_out, field.name))}"
        for field in msgspec.structs.fields(SECTIONS[section])
        if getattr(left_out, field.name) is not None
    ]
    assert lines
    text = "\n".join((f"[{section}]", *lines))
    assert compose(text, SECTIONS, file="x").take(section, SECTIONS[section]) == left_out
