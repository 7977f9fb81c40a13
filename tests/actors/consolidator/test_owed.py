"""On which date a night is owed: daylight saving, missed nights, clocks that jump."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from actors.consolidator.actor import last_due, owed

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
AT_3 = time(3, 0)


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


def since(text: str, fold: int = 0) -> str:
    return berlin(text, fold).isoformat()


def test_the_newest_due_moment_is_todays_or_yesterdays() -> None:
    assert last_due(berlin("2026-01-05 02:59:59"), AT_3).isoformat() == "2026-01-04T03:00:00"
    assert last_due(berlin("2026-01-05 03:00:00"), AT_3).isoformat() == "2026-01-05T03:00:00"
    assert last_due(berlin("2026-03-01 00:00:00"), time(0, 0)).isoformat() == "2026-03-01T00:00:00"


@pytest.mark.parametrize(
    ("now", "learnt", "had", "expected"),
    [
        pytest.param("2026-01-05 02:59", "2026-01-04 12:00", (), "", id="not yet"),
        pytest.param("2026-01-05 03:00", "2026-01-04 12:00", (), "2026-01-05", id="on the hour"),
        pytest.param("2026-01-05 11:00", "2026-01-04 12:00", (), "2026-01-05", id="late the same day"),
        pytest.param("2026-01-05 11:00", "2026-01-04 12:00", ("2026-01-05",), "", id="has had it"),
        pytest.param("2026-01-05 11:00", "2026-01-04 12:00", ("",), "2026-01-05", id="one by hand does not count"),
        pytest.param("2026-01-05 11:00", "2026-01-05 03:00", (), "", id="born on the hour"),
        pytest.param("2026-01-05 11:00", "2026-01-05 04:00", (), "", id="born after the hour"),
        pytest.param("2026-01-06 03:00", "2026-01-05 04:00", (), "2026-01-06", id="its own first night"),
        pytest.param("2026-01-15 11:00", "2026-01-04 12:00", ("2026-01-04",), "2026-01-15", id="ten missed, one owed"),
        pytest.param("2026-01-15 01:00", "2026-01-04 12:00", (), "2026-01-14", id="missed, before the hour"),
        pytest.param("2026-03-01 03:00", "2026-02-28 12:00", ("2026-02-28",), "2026-03-01", id="over a month's end"),
    ],
)
def test_n8_owed(now: str, learnt: str, had: tuple[str, ...], expected: str) -> None:
    assert owed(berlin(now), AT_3, since(learnt), had) == expected


def test_n9_nothing_learnt_nothing_owed() -> None:
    assert owed(berlin("2026-01-05 11:00"), AT_3, None, ()) == ""


def _nights(start: datetime, hours: int, at: time, learnt: str, zone: ZoneInfo, minutes: int = 5) -> list[str]:
    """Look every few minutes of real time; the adapter is born again a while after each night."""
    found: list[str] = []
    had: set[str] = set()
    for minute in range(0, hours * 60, minutes):
        now = (start.astimezone(UTC) + timedelta(minutes=minute)).astimezone(zone)
        day = owed(now, at, learnt, had)
        if day:
            found.append(f"{day} at {now:%d %H:%M %z}")
            had.add(day)
            learnt = (now.astimezone(UTC) + timedelta(minutes=10)).astimezone(zone).isoformat()
    return found


def test_n8_an_hour_that_does_not_exist_is_due_when_it_would_have_been() -> None:
    """In spring 02:00 is followed by 03:00: a night at 02:30 is due at 03:00."""
    start = berlin("2026-03-27 12:00")
    assert _nights(start, 72, time(2, 30), since("2026-03-27 11:00"), BERLIN) == [
        "2026-03-28 at 28 02:30 +0100",
        "2026-03-29 at 29 03:00 +0200",
        "2026-03-30 at 30 02:30 +0200",
    ]


def test_n8_an_hour_that_comes_twice_is_due_once() -> None:
    """In autumn 03:00 is followed by 02:00: 02:30 comes twice."""
    start = berlin("2026-10-23 12:00")
    for at, expected in ((time(2, 30), "02:30 +0200"), (time(3, 0), "03:00 +0100"), (time(2, 0), "02:00 +0200")):
        found = _nights(start, 72, at, since("2026-10-23 11:00"), BERLIN)
        assert [one.split(" at ")[0] for one in found] == ["2026-10-24", "2026-10-25", "2026-10-26"]
        assert found[1].endswith(expected)


def test_n8_half_an_hour_of_daylight_saving() -> None:
    """Lord Howe moves its clocks by thirty minutes."""
    for start in ("2026-04-03 12:00", "2026-10-02 12:00"):
        begin = datetime.fromisoformat(start).replace(tzinfo=LORD_HOWE)
        found = _nights(begin, 72, time(1, 45), begin.isoformat(), LORD_HOWE)
        assert len({one.split(" at ")[0] for one in found}) == len(found) == 3


def test_n8_learnt_in_the_first_of_two_same_hours() -> None:
    """First step at 02:40 the first time round; at 02:35 the second time that is in the wall clock's future."""
    learnt = since("2026-10-25 02:40", fold=0)
    assert owed(berlin("2026-10-25 02:35", fold=1), time(2, 30), learnt, {"2026-10-25"}) == ""
    assert owed(berlin("2026-10-26 02:30"), time(2, 30), learnt, {"2026-10-25"}) == "2026-10-26"


def test_n8_a_clock_set_back_gives_no_date_a_second_night() -> None:
    had = {"2026-01-04", "2026-01-05"}
    learnt = since("2026-01-05 12:00")
    assert owed(berlin("2026-01-04 13:00"), AT_3, learnt, had) == ""
    assert owed(berlin("2026-01-05 13:00"), AT_3, learnt, had) == ""
    assert owed(berlin("2026-01-06 03:00"), AT_3, learnt, had) == "2026-01-06"


def test_n8_a_clock_set_back_by_hours_folds_no_adapter_before_its_first_date() -> None:
    """The night of the 5th ran, the fresh adapter learnt, and the clock goes back over the hour: the 4th had none."""
    assert owed(berlin("2026-01-05 01:00"), AT_3, since("2026-01-05 03:10"), {"2026-01-05"}) == ""


def test_n8_a_clock_that_was_once_years_ahead_does_not_end_all_nights() -> None:
    """A battery is replaced, the clock says 2099, a night runs; then the clock is right again."""
    had = {"2026-01-04", "2099-06-01"}
    assert owed(berlin("2026-01-06 03:00"), AT_3, since("2026-01-05 12:00"), had) == "2026-01-06"
    # The adapter's first step was stamped while the clock was wrong.
    assert owed(berlin("2026-01-06 03:00"), AT_3, since("2099-06-02 12:00"), had) == "2026-01-06"


def test_n8_a_clock_set_forth_owes_the_date_it_shows() -> None:
    assert owed(berlin("2026-02-01 09:00"), AT_3, since("2026-01-05 12:00"), {"2026-01-05"}) == "2026-02-01"


def test_another_zone_than_the_one_learnt_in_compares_wall_times() -> None:
    """The home was moved, or the zone changed: what counts is what the clock on the wall says."""
    learnt = datetime(2026, 1, 5, 2, 0, tzinfo=UTC).isoformat()
    assert owed(berlin("2026-01-05 03:30"), AT_3, learnt, ()) == "2026-01-05"
