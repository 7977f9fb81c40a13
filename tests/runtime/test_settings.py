"""The config: what is right becomes Structs, what is wrong is told all at once and by line."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

import msgspec
import pytest

from runtime.errors import EXIT_CONFIG, OperatorError
from runtime.settings import Composed, check_plugin, compose
from runtime.toml_lines import key_lines, line_of


class TrainerSettings(msgspec.Struct, frozen=True):
    model: str = "model"
    epochs: Annotated[int, msgspec.Meta(ge=1)] = 1
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1e-4
    targets: tuple[str, ...] = ()
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"


class NightSettings(msgspec.Struct, frozen=True):
    at: dt.time = dt.time(3)
    keep: Annotated[int, msgspec.Meta(ge=1)] = 3
    keep_pinned: int = 0

    def __post_init__(self) -> None:
        if self.keep_pinned > self.keep:
            raise ValueError("keep_pinned may not be more than keep")


class Address(msgspec.Struct, frozen=True):
    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 80


class HookSettings(msgspec.Struct, frozen=True):
    url: str
    every: int = 1
    address: Address | None = None


SECTIONS: dict[str, type[msgspec.Struct]] = {"trainer": TrainerSettings, "consolidator": NightSettings}


def composed(text: str) -> Composed:
    return compose(text, SECTIONS, file="nightfold.toml")


def refused(text: str) -> str:
    with pytest.raises(OperatorError) as caught:
        composed(text)
    assert caught.value.code == "NF-CONF-001"
    assert caught.value.exit_code == EXIT_CONFIG
    return caught.value.what


def test_an_empty_file_gives_every_section_its_defaults() -> None:
    assert composed("").sections == {"trainer": TrainerSettings(), "consolidator": NightSettings()}


def test_what_the_file_says_is_taken() -> None:
    found = composed(
        '[trainer]\nmodel = "m"\nepochs = 2\nlearning_rate = 1\ntargets = ["q"]\ndtype = "float32"\n'
        "[consolidator]\nat = 02:30:00\n"
    )
    trainer = found.take("trainer", TrainerSettings)
    assert trainer == TrainerSettings("m", 2, 1.0, ("q",), "float32")
    assert isinstance(trainer.learning_rate, float)
    assert found.take("consolidator", NightSettings).at == dt.time(2, 30)


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    what = refused(
        "\n[trainer]\nepochs = 0\nlearning_rate = '1e-4'\nephocs = 3\n\n[trainr]\n\n[consolidator]\nat = '03:00'\n"
    )
    assert what.splitlines() == [
        "5 problems",
        "  nightfold.toml:3: trainer.epochs: expected int >= 1, found 0 (int)",
        '  nightfold.toml:4: trainer.learning_rate: expected float, found the text "1e-4"',
        "  nightfold.toml:5: trainer.ephocs: unknown key; did you mean epochs?",
        "  nightfold.toml:7: trainr: unknown section [trainr]; did you mean trainer?",
        '  nightfold.toml:10: consolidator.at: expected a local time like 03:00:00, found the text "03:00"',
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[trainer]\nepochs = true", "trainer.epochs: expected int, found true"),
        ("[trainer]\nepochs = 1.0", "trainer.epochs: expected int, found 1.0 (float)"),
        ("[trainer]\ntargets = ['a', 3]", "trainer.targets: expected str, found ['a', 3] (a list) (at [1])"),
        ("[trainer]\ndtype = 'fp8'", 'trainer.dtype: expected one of "auto", "bfloat16", "float32", found'),
        ("[consolidator]\nat = 3", "consolidator.at: expected time, found 3 (int)"),
        ("[trainer]\nkeep = 1", "trainer.keep: unknown key; it belongs under [consolidator]"),
        (
            "keep = 1",
            "keep: expected a key inside a section, found keep before the first one; it belongs under",
        ),
        ("trainer = 3", "trainer: expected a section [trainer], found 3 (int)"),
        ("[consolidator]\nkeep_pinned = 9", "consolidator: keep_pinned may not be more than keep"),
        ("[consolidator]\nmodel = 'x'", "consolidator.model: unknown key; it belongs under [trainer]"),
        ("[plugin.x]\nactor = 'a:B'", "plugin: unknown section [plugin]; did you mean plugins?"),
        ("[plugins.hook]\nurl = 'x'", "plugins.hook.actor: expected the plug-in's class"),
        ("[plugins.hook]\nactor = 3", 'plugins.hook.actor: expected "package.module:Class", found 3 (int)'),
        ("[plugins]\nhook = 3", "plugins.hook: expected a section [plugins.hook], found 3 (int)"),
    ],
)
def test_each_kind_of_problem_is_told_in_words(text: str, words: str) -> None:
    what = refused(text)
    assert words in what
    assert what.startswith(("nightfold.toml:1:", "nightfold.toml:2:"))


def test_a_syntax_error_names_the_line_and_shows_it() -> None:
    what = refused("[trainer]\nmodel = my-model\n")
    assert what.startswith("nightfold.toml:2: not TOML: Invalid value")
    assert what.endswith("in: model = my-model")
    assert "at the end of the file" in refused("[trainer]\nmodel = ")


def test_plugins_keep_their_raw_tables() -> None:
    found = composed("[plugins.hook]\nactor = 'my.hooks:Hook'\nurl = 'x'\n")
    assert found.plugins == {"hook": {"actor": "my.hooks:Hook", "url": "x"}}


def test_other_free_tables_are_left_as_they_stand() -> None:
    found = compose("[notes]\nx = 1\n", SECTIONS, file="f", free_tables=("notes",))
    assert found.free == {"notes": {"x": 1}}
    assert found.plugins == {}


def test_check_plugin_builds_the_settings_without_the_actor() -> None:
    assert check_plugin("hook", {"actor": "a:B", "url": "x"}, HookSettings) == HookSettings("x")


def test_check_plugin_tells_all_problems_with_lines_when_it_has_the_text() -> None:
    text = "[plugins.hook]\nactor = 'a:B'\nevery = 'x'\nulr = 'y'\n"
    table = composed(text).plugins["hook"]
    with pytest.raises(OperatorError) as caught:
        check_plugin("hook", table, HookSettings, text=text)
    assert caught.value.what.splitlines()[1:] == [
        "  nightfold.toml:1: plugins.hook.url: expected str, found nothing: this key has no default",
        '  nightfold.toml:3: plugins.hook.every: expected int, found the text "x"',
        "  nightfold.toml:4: plugins.hook.ulr: unknown key; did you mean url?",
    ]


def test_a_struct_inside_a_section_is_checked_key_by_key_too() -> None:
    class Server(msgspec.Struct):
        address: Address

    text = "[server]\n[server.address]\nport = 0\nhots = 'x'\n"
    with pytest.raises(OperatorError) as caught:
        compose(text, {"server": Server}, file="f")
    assert "f:3: server.address.port: expected int >= 1, found 0 (int)" in caught.value.what
    assert "f:4: server.address.hots: unknown key; did you mean host?" in caught.value.what
    assert compose("[server.address]\nhost = 'h'\n", {"server": Server}, file="f").take("server", Server) == Server(
        Address("h")
    )


def test_lines_are_found_behind_strings_arrays_and_comments_that_span_lines() -> None:
    text = '''# [not.a.section]
a = """
[b]
c = 1
"""
d = [ # ]
  "]", 'x = 1',
  [3],
  2,
]

[ "quoted name" . x ]
e.f = { g = 1 } # h = 2
i = \'\'\'
\'\'\'
[[list]]
j = "#"
k = 1
'''
    assert key_lines(text) == {
        ("a",): 2,
        ("d",): 6,
        ("quoted name",): 12,
        ("quoted name", "x"): 12,
        ("quoted name", "x", "e"): 13,
        ("quoted name", "x", "e", "f"): 13,
        ("quoted name", "x", "i"): 14,
        ("list",): 16,
        ("list", "j"): 17,
        ("list", "k"): 18,
    }


def test_a_path_without_a_line_of_its_own_has_that_of_its_nearest_parent() -> None:
    lines = key_lines("x = 1\n[a]\nb = { c = 1 }\n")
    assert line_of(lines, ("a", "b", "c", "d")) == 3
    assert line_of(lines, ("unknown",)) == 0
