"""The user's config: one TOML text becomes one settings Struct for each section.

Every section belongs to whoever declares its Struct; this module knows none of them. It guarantees that a
person sees everything that is wrong at once, each finding with its line, what was expected and what stands
there, and that nothing is guessed: no number is read out of a string, no unknown key is passed over.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
import tomllib
from collections.abc import Container, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from runtime.errors import EXIT_CONFIG, OperatorError
from runtime.toml_lines import KeyPath, key_lines, line_of

SettingsT = TypeVar("SettingsT", bound=msgspec.Struct)
Table = dict[str, Any]


class Composed(msgspec.Struct, frozen=True):
    """A config that was found right.

    Attributes:
        sections: every section's settings, the defaults where the file says nothing.
        plugins: the raw table of each ``[plugins.NAME]``, with ``actor``; the rest is for ``check_plugin``.
        free: the other free tables, as they stand.
    """

    sections: Mapping[str, msgspec.Struct]
    plugins: Mapping[str, Table]
    free: Mapping[str, Table]

    def take(self, name: str, kind: type[SettingsT]) -> SettingsT:
        """The settings of section ``name``, which were declared as ``kind``."""
        settings = self.sections[name]
        assert isinstance(settings, kind), f"[{name}] was composed as {type(settings).__name__}"
        return settings


def compose(
    text: str,
    sections: Mapping[str, type[msgspec.Struct]],
    *,
    file: str,
    free_tables: Container[str] = ("plugins",),
) -> Composed:
    """Read ``text`` into ``sections``; ``file`` is its name in the findings.

    Raises:
        OperatorError: NF-CONF-001 with all the findings, one to a line.
    """
    document = _parse(text, file)
    findings = _Findings(file, key_lines(text))
    built: dict[str, msgspec.Struct] = {}
    free: dict[str, Table] = {}
    for name, value in document.items():
        known = name in sections or name in free_tables
        if not known and not isinstance(value, dict):
            findings.add(
                (name,),
                f"expected a key inside a section, found {name} before the first one" + _home_of(name, sections),
            )
        elif not known:
            plugins = ["plugins"] if "plugins" in free_tables else []
            findings.add((name,), f"unknown section [{name}]" + _nearest(name, [*sections, *plugins]))
        elif not isinstance(value, dict):
            findings.add((name,), f"expected a section [{name}], found {_shown(value)}")
        elif name not in sections:
            free[name] = value
    for name, kind in sections.items():
        table = document.get(name, {})
        if isinstance(table, dict):
            settings = _build(kind, table, (name,), findings, sections)
            if settings is not None:
                built[name] = settings
    plugins_found = free.pop("plugins", {})
    for name, table in plugins_found.items():
        _check_plugin_table(name, table, findings)
    findings.raise_if_any()
    return Composed(built, plugins_found, free)


def check_plugin(
    name: str,
    table: Mapping[str, object],
    settings_type: type[SettingsT],
    *,
    file: str = "nightfold.toml",
    text: str = "",
) -> SettingsT:
    """One plug-in's own settings: its table without ``actor``. ``text`` is the file's, for the line numbers.

    Raises:
        OperatorError: NF-CONF-001 with all the findings.
    """
    findings = _Findings(file, key_lines(text))
    own = {key: value for key, value in table.items() if key != "actor"}
    settings = _build(settings_type, own, ("plugins", name), findings, {})
    findings.raise_if_any()
    assert settings is not None
    return settings


class _Findings:
    """What is wrong so far, each as one line."""

    def __init__(self, file: str, lines: dict[KeyPath, int]) -> None:
        self._file = file
        self._lines = lines
        self._found: list[tuple[int, str]] = []

    def add(self, path: KeyPath, words: str) -> None:
        line = line_of(self._lines, path)
        where = f"{self._file}:{line}" if line else self._file
        self._found.append((line, f"{where}: {'.'.join(path)}: {words}"))

    def __len__(self) -> int:
        return len(self._found)

    def raise_if_any(self) -> None:
        if not self._found:
            return
        found = [words for _, words in sorted(self._found, key=lambda finding: finding[0])]
        what = found[0] if len(found) == 1 else f"{len(found)} problems\n  " + "\n  ".join(found)
        raise OperatorError("NF-CONF-001", what, hint="mend the file and start again", exit_code=EXIT_CONFIG)


def _parse(text: str, file: str) -> Table:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        words = str(error)
        place = re.search(r" \(at line (\d+), column \d+\)", words)
        lines = text.splitlines()
        number = int(place.group(1)) if place else len(lines)
        words = (
            words.replace(place.group(0), "")
            if place
            else words.replace(" (at end of document)", " at the end of the file")
        )
        line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        what = f"{file}:{number}: not TOML: {words}" + (f", in: {line[:80]}" if line else "")
        hint = 'a value is a number, true, false, a time like 03:00:00, or a text in "quotes"'
        raise OperatorError("NF-CONF-001", what, hint=hint, exit_code=EXIT_CONFIG) from error


def _build(
    kind: type[SettingsT],
    table: Mapping[str, object],
    path: KeyPath,
    findings: _Findings,
    sections: Mapping[str, type[msgspec.Struct]],
) -> SettingsT | None:
    """``kind`` from ``table``; ``None`` when that added findings."""
    before = len(findings)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, object] = {}
    for key, value in table.items():
        field = fields.get(key)
        if field is None:
            near = _nearest(key, fields) or _home_of(key, sections)
            findings.add((*path, key), "unknown key" + near)
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct) and isinstance(value, dict):
            values[field.name] = _build(field.type, value, (*path, key), findings, sections)
        else:
            try:
                values[field.name] = msgspec.convert(value, field.type, strict=True)
            except msgspec.ValidationError as error:
                inside, expected = _expected(str(error), field.type)
                findings.add((*path, key), f"expected {expected}, found {_shown(value)}{inside}")
    for key, field in fields.items():
        if field.required and key not in table:
            findings.add((*path, key), f"expected {_kind(field.type)}, found nothing: this key has no default")
    if len(findings) > before:
        return None
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        # A Struct's own __post_init__ compares keys with each other, which no single key's type can say.
        findings.add(path, str(error))
        return None


def _check_plugin_table(name: str, table: object, findings: _Findings) -> None:
    path = ("plugins", name)
    if not isinstance(table, dict):
        findings.add(path, f"expected a section [plugins.{name}], found {_shown(table)}")
    elif "actor" not in table:
        findings.add(
            (*path, "actor"),
            'expected the plug-in\'s class, as in actor = "package.module:Class", found nothing',
        )
    elif not isinstance(table["actor"], str) or not table["actor"].strip():
        findings.add((*path, "actor"), f'expected "package.module:Class", found {_shown(table["actor"])}')


def _expected(words: str, kind: object) -> tuple[str, str]:
    """msgspec's words (expected `int` >= 1, at `$[0]`), as where inside the value and what was expected."""
    inside = ""
    if place := re.search(r" - at `\$(.*)`$", words):
        words = words[: place.start()]
        inside = f" (at {place.group(1)})" if place.group(1) else ""
    if not words.startswith("Expected "):
        # "Invalid enum value", "Invalid RFC3339 encoded time": what came, not what should have come.
        return inside, _kind(kind)
    words = re.sub(r", got `.*`$", "", words).replace("`", "")
    return inside, words.removeprefix("Expected ")


def _kind(kind: object) -> str:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(json.dumps(choice) for choice in get_args(kind))
    if kind is dt.time:
        return "a local time like 03:00:00"
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _shown(value: object) -> str:
    kind = {"str": "text", "dict": "a table", "list": "a list"}.get(type(value).__name__, type(value).__name__)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return kind
    if isinstance(value, str):
        written = json.dumps(value, ensure_ascii=False)
        return f"the text {written if len(written) <= 60 else written[:57] + '…'}"
    written = str(value)
    return f"{written if len(written) <= 60 else written[:57] + '…'} ({kind})"


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _home_of(key: str, sections: Mapping[str, type[msgspec.Struct]]) -> str:
    """In which section a key that stands in the wrong place is at home."""
    owners = [name for name, kind in sections.items() if key in kind.__struct_encode_fields__]
    return f"; it belongs under [{owners[0]}]" if owners else ""
