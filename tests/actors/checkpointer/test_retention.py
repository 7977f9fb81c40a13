"""Retention's policy: what stays, what goes, and why. Pure, so each promise is asked of made-up homes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from actors.checkpointer.head import Head, Kept, Night, PinnedSnapshot, WentBack, generation_path
from actors.checkpointer.retention import Bounds, Found, Verdict, judge, trimmed


def kept(number: int, *, size: int = 100, model: str = "", pinned: bool = False) -> Kept:
    path = generation_path(number)
    return Kept(number, path, "", "", "", number, "a0001", number, model, (), size, pinned=pinned)


def head_of(*generations: Kept, force: int = 0, nights: tuple[Night, ...] = ()) -> Head:
    number = force or generations[-1].generation
    model = next(one.model_path for one in generations if one.generation == number)
    return Head(1, 9, number, generation_path(number), model, "base", "", kept=generations, nights=nights)


def bounds(generations: int = 3, snapshots: int = 2, nights: int = 1, **bytes_max: int) -> Bounds:
    return Bounds(generations, snapshots, nights, **bytes_max)


def staying(head: Head, given: Bounds, found: Found | None = None) -> list[int]:
    return [one.generation for one in trimmed(head, judge(head, given, found or Found())).kept]


def why(verdicts: Sequence[Verdict], kind: str, name: str) -> tuple[bool, str]:
    return next((one.stays, one.why) for one in verdicts if (one.kind, one.name) == (kind, name))


FIVE = tuple(kept(number) for number in range(1, 6))


def test_d2_the_newest_stay_and_each_verdict_says_why() -> None:
    verdicts = judge(head_of(*FIVE), bounds(3), Found())
    assert [one.stays for one in verdicts] == [False, False, True, True, True]
    assert why(verdicts, "generation", "1") == (False, "beyond the newest 3")
    assert why(verdicts, "generation", "3") == (True, "among the newest 3")
    assert why(verdicts, "generation", "5") == (True, "in force")


@pytest.mark.parametrize(("most", "stay"), [(1000, [3, 4, 5]), (300, [3, 4, 5]), (299, [4, 5]), (200, [4, 5])])
def test_d2_bytes_bound_generations_from_the_newest_down(most: int, stay: list[int]) -> None:
    assert staying(head_of(*FIVE), bounds(3, generations_bytes_max=most)) == stay


def test_d2_two_generations_stay_however_large() -> None:
    head = head_of(*(replace(one, size_bytes=10**12) for one in FIVE))
    given = bounds(3, generations_bytes_max=1)
    assert staying(head, given) == [4, 5]
    assert why(judge(head, given, Found()), "generation", "4") == (True, "to fall back on")


def test_d2_in_force_stays_and_so_does_the_newest_whatever_the_bytes() -> None:
    """After going back, what is in force is not the newest; the newest stays, or its number would be given again."""
    head = head_of(*FIVE, force=1)
    assert staying(head, bounds(2, generations_bytes_max=1)) == [1, 4, 5]
    assert trimmed(head, judge(head, bounds(2), Found())).next_generation == 6


def test_d2_nothing_older_stays_than_the_first_that_does_not_fit() -> None:
    head = head_of(kept(1, size=1), kept(2, size=500), kept(3), kept(4))
    assert staying(head, bounds(9, generations_bytes_max=400)) == [3, 4]


def test_d2_what_stays_anyway_counts_against_the_bytes() -> None:
    pinned = (kept(1, size=150, pinned=True), *FIVE[1:])
    assert staying(head_of(*pinned), bounds(5, generations_bytes_max=400)) == [1, 4, 5]
    assert staying(head_of(*FIVE), bounds(5, generations_bytes_max=400)) == [2, 3, 4, 5]


def test_d2_both_ends_of_the_last_rollback_stay() -> None:
    many = tuple(kept(number) for number in range(1, 12))
    head = replace(head_of(*many), went_back=WentBack(to=2, left=5))
    assert staying(head, bounds(2, generations_bytes_max=1)) == [2, 5, 10, 11]
    verdicts = judge(head, bounds(2), Found())
    assert why(verdicts, "generation", "2") == (True, "what one went back to")
    assert why(verdicts, "generation", "5") == (True, "left by going back")


# Nights, and the models that they stand on.

FIRST, SECOND = "20260101T030000", "20260102T030000"
NIGHTS = (
    Night(FIRST, 2, 1, f"consolidated_models/{FIRST}", ""),
    Night(SECOND, 4, 3, f"consolidated_models/{SECOND}", ""),
)
TWO_NIGHTS = (
    kept(1),
    kept(2, model=NIGHTS[0].model_path),
    kept(3, model=NIGHTS[0].model_path),
    kept(4, model=NIGHTS[1].model_path),
    *(kept(number, model=NIGHTS[1].model_path) for number in range(5, 9)),
)
MODELS = Found(
    models=(NIGHTS[0].model_path, NIGHTS[1].model_path),
    sizes={NIGHTS[0].model_path: 1000, NIGHTS[1].model_path: 1000},
)


def test_d2_a_kept_night_holds_both_its_generations_and_their_models() -> None:
    head = head_of(*TWO_NIGHTS, nights=NIGHTS)
    assert staying(head, bounds(2, nights=1), MODELS) == [3, 4, 7, 8]
    verdicts = judge(head, bounds(2, nights=1), MODELS)
    assert why(verdicts, "night", FIRST) == (False, "beyond the newest 1")
    assert why(verdicts, "generation", "3") == (True, f"stands under night {SECOND}")
    assert why(verdicts, "model", FIRST) == (True, "generation 3 stands on it")
    assert why(verdicts, "model", SECOND) == (True, "in force")


def test_d2_nights_go_by_the_bytes_of_their_models() -> None:
    head = head_of(*TWO_NIGHTS, nights=NIGHTS)
    given = bounds(2, nights=2, nights_bytes_max=1999)
    verdicts = judge(head, given, MODELS)
    assert why(verdicts, "night", SECOND) == (False, "beyond 1999 bytes"), "what it folded stands on another model"
    assert why(verdicts, "model", FIRST) == (False, "nothing that stays stands on it")
    assert staying(head, given, MODELS) == [7, 8]
    assert staying(head, bounds(2, nights=2, nights_bytes_max=2000), MODELS) == [1, 2, 3, 4, 7, 8]


def test_d2_generations_go_with_a_model_that_does_not_fit() -> None:
    head = head_of(*TWO_NIGHTS[:5], nights=NIGHTS)
    given = bounds(5, nights=2, nights_bytes_max=1500)
    assert staying(head, given, MODELS) == [1, 4, 5], "the first stands on the pristine base, which is there anyway"
    assert why(judge(head, given, MODELS), "generation", "3") == (False, "the model it stands on is beyond 1500 bytes")


def test_d2_the_model_in_force_stays_however_large() -> None:
    head = head_of(*TWO_NIGHTS, nights=NIGHTS)
    verdicts = judge(head, bounds(2, nights=1, nights_bytes_max=1), MODELS)
    assert why(verdicts, "model", SECOND) == (True, "in force")


def test_d2_a_pinned_night_stays_with_what_was_before_it() -> None:
    head = head_of(*TWO_NIGHTS, nights=(replace(NIGHTS[0], pinned=True), NIGHTS[1]))
    given = bounds(2, nights=1, nights_bytes_max=1, generations_bytes_max=1)
    assert staying(head, given, MODELS) == [1, 2, 3, 4, 7, 8], "the second night costs no further model then"
    verdicts = judge(head, given, MODELS)
    assert why(verdicts, "night", FIRST) == (True, "pinned")
    assert why(verdicts, "model", FIRST) == (True, "generation 3 stands on it")


# Snapshots, and what was set aside.


def row(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


def test_d2_snapshots_go_by_number_and_bytes_but_not_the_newest_nor_pinned_ones() -> None:
    snapshots = row("snapshots", "01", "02", "03", "04")
    found = Found(snapshots=snapshots, sizes=dict.fromkeys(snapshots, 10))
    head = replace(head_of(*FIVE), snapshots=(PinnedSnapshot("01", 1, "consolidated_models/gone"),))
    given = bounds(snapshots=4, snapshots_bytes_max=30)
    verdicts = [one for one in judge(head, given, found) if one.kind == "snapshot"]
    assert [(one.name, one.stays, one.why) for one in verdicts] == [
        ("01", True, "pinned"),
        ("02", False, "beyond 30 bytes"),
        ("03", True, "among the newest 4, within 30 bytes"),
        ("04", True, "the newest"),
    ]
    none_fits = judge(head, bounds(snapshots=4, snapshots_bytes_max=1), found)
    assert [one.name for one in none_fits if one.kind == "snapshot" and one.stays] == ["01", "04"]
    assert head.models_needed() == ("consolidated_models/gone",)


def test_d2_set_aside_things_go_by_number_and_bytes() -> None:
    aside = row("state/set_aside", "a", "b", "c", "d", "e")
    found = Found(set_aside=aside, sizes=dict.fromkeys(aside, 10))
    for most, stay in ((None, 3), (30, 3), (29, 2), (1, 1)):
        given = replace(bounds(), set_aside_bytes_max=most)
        verdicts = [one for one in judge(None, given, found) if one.kind == "set_aside"]
        assert [one.stays for one in verdicts] == [False] * (5 - stay) + [True] * stay


# Whatever the home.


def _some_home(chance: random.Random) -> tuple[Head, Found]:
    """Generations, nights and pins at random: what rollbacks, nights and damage may have left."""
    numbers = sorted(chance.sample(range(1, 40), chance.randint(1, 12)))
    models = [f"consolidated_models/{number:02d}" for number in range(4)]
    generations = tuple(
        kept(
            number,
            size=chance.choice((1, 10, 100)),
            model=chance.choice(("", *models)),
            pinned=chance.random() < 0.2,
        )
        for number in numbers
    )
    nights = tuple(
        Night(
            f"n{place}",
            chance.choice(numbers),
            chance.choice(numbers),
            chance.choice(models),
            "",
            pinned=chance.random() < 0.2,
        )
        for place in range(chance.randint(0, 4))
    )
    head = head_of(*generations, force=chance.choice(numbers), nights=nights)
    if chance.random() < 0.4:
        head = replace(head, went_back=WentBack(chance.choice(numbers), chance.choice(numbers)))
    return head, Found(models=tuple(models), sizes={path: chance.choice((1, 10, 100)) for path in models})


@pytest.mark.parametrize("seed", range(300))
def test_d2_whatever_the_home_and_the_bounds_what_must_stay_stays(seed: int) -> None:
    chance = random.Random(seed)
    head, found = _some_home(chance)
    given = bounds(
        chance.randint(2, 5),
        nights=chance.randint(1, 3),
        **{name: chance.choice((1, 50, 150)) for name in ("generations_bytes_max", "nights_bytes_max")},
    )
    verdicts = judge(head, given, found)
    left = trimmed(head, verdicts)
    stay = {one.generation for one in left.kept}
    assert head.generation in stay
    assert max(one.generation for one in head.kept) in stay
    assert {one.generation for one in head.kept if one.pinned} <= stay
    for night in left.nights:
        assert {night.generation, night.folded} & {one.generation for one in head.kept} <= stay
    assert {night.night for night in head.nights if night.pinned} <= {night.night for night in left.nights}
    if head.went_back is not None:
        assert {head.went_back.to, head.went_back.left} <= stay
    assert len(stay) >= min(2, len(head.kept))
    for model in left.models_needed():
        assert all(one.stays for one in verdicts if one.path == model)
    # Judged again, nothing more goes: what retention leaves is what it keeps.
    assert trimmed(left, judge(left, given, found)) == left


def test_the_order_of_verdicts_is_that_of_age() -> None:
    verdicts = judge(head_of(*TWO_NIGHTS, nights=NIGHTS), bounds(), MODELS)
    for _, group in itertools.groupby(verdicts, key=lambda one: one.kind):
        names = [one.name for one in group]
        assert names == sorted(names, key=lambda name: (len(name), name))
