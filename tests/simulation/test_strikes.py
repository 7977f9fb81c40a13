"""Faults as data: a list survives being written and read, and every universe has weather of its own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from runtime import durable
from runtime.simulation.coverage import plain
from runtime.simulation.faults import IoError, NoSpace, PowerCut, ShortWrite
from runtime.simulation.shrinking import shrink
from runtime.simulation.strikes import Strike, read, written
from runtime.simulation.weather import AIMED_MOST, NEVER, Climate, GivenWeather, SeededWeather

STRIKES = (
    Strike(1, "io_error", 33),
    Strike(1, "job_slow", 7, "", 60.0),
    Strike(2, "cut", 118, "torn.halfway", 0.0, 77),
    Strike(2, "kill", 9, "keep_all"),
    Strike(3, "slow_disk", 4000, "30", 1800.0),
    Strike(3, "crash", 12, where="trainer before StepsTaken"),
    Strike(2, "cut", 0, "torn", 0.0, 9, "rename state/HEAD", 3),
)


def test_a_list_of_strikes_is_read_as_it_was_written() -> None:
    assert written(STRIKES).split()[:3] == ["1.io_error@33", "1.job_slow@7::60", "2.cut@118:torn.halfway:0:77"]
    assert written(STRIKES).split()[-1] == "2.cut@rename,state/HEAD#3:torn:0:9"
    assert read(written(STRIKES))[-1] == STRIKES[-1]
    assert [str(one) for one in read(written(STRIKES))] == [str(one) for one in STRIKES]
    assert read("1.crash@2  # for people: 3.crash@4\n\n2.crash@5") == (Strike(1, "crash", 2), Strike(2, "crash", 5))


@pytest.mark.parametrize("text", ["crash@2", "1.crash", "1.crash@x", "1.cut@5:most", "1.cut@5"])
def test_what_is_no_strike_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no strike|is not what a power cut leaves"):
        read(text)


def test_a_strike_at_the_disk_says_what_the_disk_is_told() -> None:
    told = [Strike(1, kind, 1).fault() for kind in ("no_space", "short_write", "io_error")]
    assert told == [NoSpace(), ShortWrite(), IoError()]
    assert STRIKES[2].fault() == PowerCut("torn", seed=77, halfway=True)


def test_weather_is_the_seeds_alone_and_differs_between_seeds() -> None:
    climate = Climate()

    def first(seed: int) -> list[int]:
        weather = SeededWeather(seed, climate, 86_400.0)
        return [weather.channel(name, 1).due for name in ("cut", "io", "crash", "job", "device")]

    assert first(3) == first(3)
    assert len({tuple(first(seed)) for seed in range(20)}) > 10


def test_each_universe_has_rates_of_its_own() -> None:
    levels = [SeededWeather(seed, Climate(), 86_400.0).levels for seed in range(64)]
    assert any(not any(level.values()) for level in levels)
    for kind in ("cut", "io", "crash", "job", "device", "disk_full", "slow_disk"):
        assert len({level[kind] for level in levels}) == 4


def test_taking_one_stream_further_moves_no_other() -> None:
    one, other = (SeededWeather(5, Climate(io=0.5, crash=0.5), 86_400.0) for _ in range(2))
    busy, crash = one.channel("io", 1), one.channel("crash", 1)
    while busy.due < 1000:
        busy.take()
    alone = other.channel("crash", 1)
    for _ in range(20):
        if crash.due == NEVER:
            break
        assert crash.take() == alone.take()


def test_in_some_universes_crashes_come_over_one_message_and_errors_in_one_place() -> None:
    climate = Climate(aims=("a/", "b/"), crash_aims=("Hello", "Goodbye"))
    aims = [
        (weather.channel("io", 1).aim, weather.channel("crash", 1).aim)
        for weather in (SeededWeather(seed, climate, 86_400.0) for seed in range(64))
    ]
    assert {io for io, _ in aims} == {"", "a/", "b/"}
    assert {crash for _, crash in aims} == {"", "Hello", "Goodbye"}
    assert sum(not io for io, _ in aims) > 20


def test_what_is_aimed_at_is_struck_where_it_passes_and_not_for_ever() -> None:
    climate = Climate(crash=1e-9, crash_aims=("Hello",), crash_aimed=1.0)
    channels = (SeededWeather(seed, climate, 86_400.0).channel("crash", 1) for seed in range(64))
    channel = next(one for one in channels if one.aim)
    struck = 0
    for point in range(1, 40):
        if channel.aim:
            channel.passing(point)
        if point >= channel.due:
            assert channel.take().point == point
            struck += 1
    assert struck == AIMED_MOST
    assert channel.aim == ""


def test_what_was_struck_may_be_struck_again_when_it_is_tried_again() -> None:
    weather = next(
        one
        for one in (SeededWeather(seed, Climate(crash_again=1.0), 86_400.0) for seed in range(64))
        if one.levels["crash"]
    )
    channel = weather.channel("crash", 1)
    channel.again(3)
    assert channel.due == 3


def test_given_weather_knows_no_chance() -> None:
    channel = GivenWeather(STRIKES).channel("cut", 2)
    assert channel.due == 9
    assert channel.take().kind == "kill"
    assert channel.due == 118
    assert channel.take().kind == "cut"
    assert channel.due == NEVER


def test_a_place_is_struck_at_its_own_passing_whatever_the_point() -> None:
    channel = GivenWeather(STRIKES).channel("cut", 2)
    assert channel.places == {("rename state/HEAD", 3): STRIKES[-1]}


def test_shrinking_finds_the_few_that_matter() -> None:
    tried = 0

    def fails(items: Sequence[int]) -> bool:
        nonlocal tried
        tried += 1
        return {3, 17, 41} <= set(items)

    assert shrink(range(60), fails, lambda: True) == [3, 17, 41]
    assert tried < 120


def test_shrinking_ends_when_time_is_up_with_what_still_fails() -> None:
    left = 5

    def in_time() -> bool:
        nonlocal left
        left -= 1
        return left > 0

    found = shrink(range(60), lambda items: 3 in items, in_time)
    assert 3 in found
    assert len(found) < 60


def test_what_fails_with_nothing_shrinks_to_nothing() -> None:
    assert shrink([1, 2, 3], lambda _: True, lambda: True) == []


@pytest.mark.parametrize("suffix", ["tmp", "part", "deleting", "whole"])
def test_a_place_is_called_the_same_whatever_day_it_is(suffix: str) -> None:
    names = {plain(durable.hidden(f"consolidated_models/{day}T030000", suffix)) for day in range(20260101, 20260131)}
    assert names == {f"consolidated_models/.*.{suffix}"}
