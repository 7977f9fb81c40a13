"""Whatever ends the daemon, and wherever, what it learns in the end is what it would have learnt undisturbed."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.real.conftest import STEPS, Live, lessons
from tests.real.daemons import Home, lesson

pytestmark = pytest.mark.real

KILLS = 6


def test_t1_killed_at_random_moments_it_ends_with_the_bytes_of_an_undisturbed_run(
    home: Home, live: Live, straight: dict[str, bytes]
) -> None:
    seed = int(os.environ.get("NIGHTFOLD_KILL_SEED", time.time_ns() % 1_000_000))
    moments = random.Random(seed)
    lessons(home)
    story = []
    for _ in range(KILLS):
        # Some lives end while they load or repair; most end so many commits later, in the middle of something.
        commits = moments.choice((0, 1, 1, 2, 3))
        delay_s = moments.uniform(0.0, 0.9 if commits == 0 else 0.15)
        enough = home.head()["number"] + commits
        daemon = live("run", home.path)
        daemon.until(
            "so many commits",
            lambda: home.head()["number"] >= enough or is_done(home),  # noqa: B023 - used at once
        )
        time.sleep(delay_s)
        daemon.kill()
        story.append(f"after {commits} commits and {delay_s:.3f} s at step {home.steps_committed()}")
    told = f"NIGHTFOLD_KILL_SEED={seed}; killed " + "; ".join(story)
    last = live("run", home.path, "--until-idle")
    assert last.end() == 0, told + "\n" + last.said
    assert home.steps_committed() == STEPS, told
    assert home.learnt() == straight, told
    assert sorted(file.name for file in (home.path / "trained").iterdir()) == [
        f"{name}.jsonl{paper}" for name in ("first", "second") for paper in ("", ".receipt.json")
    ], told
    receipts = [home.json(f"trained/{name}.jsonl.receipt.json") for name in ("first", "second")]
    assert [(one["first_global_step"], one["last_global_step"]) for one in receipts] == [(1, 20), (21, 40)], told


def test_t1_r1_killed_between_the_commit_of_a_batch_and_its_filing_it_is_not_trained_again(
    home: Home, live: Live
) -> None:
    home.drop("a.jsonl", lesson(1, 8))
    first = live("run", home.path, "--until-idle")
    assert first.end() == 0, first.said
    learnt, head = home.learnt(), home.head()
    # What a kill in that moment leaves: the outcome is committed, and the file is where it was while it trained.
    state = home.json("current_model/trainer_state.json")
    kept = next(kept for kept in head["kept"] if kept["why"] == "batch end")
    unfiled = home.json(f"{kept['path']}/trainer_state.json")["unfiled"]
    assert ([one["batch"] for one in unfiled], state["global_step"]) == (["000001"], 4)
    (home.path / "state/batches/000001").mkdir()
    (home.path / "trained/a.jsonl").rename(home.path / "state/batches/000001/a.jsonl")
    (home.path / "trained/a.jsonl.receipt.json").unlink()
    assert head["generation"] == kept["generation"], "the commit of the batch is to be the one in force"
    again = live("run", home.path, "--until-idle")
    assert again.end() == 0, again.said
    assert home.has("trained/a.jsonl.receipt.json")
    assert home.has("trained/a.jsonl")
    assert "training   a.jsonl" not in again.said
    assert home.steps_committed() == 4
    assert home.learnt() == learnt


def is_done(home: Home) -> bool:
    return home.has("trained/second.jsonl")


def test_t7_stopped_in_three_ways_and_paused_it_ends_in_order_and_loses_nothing(
    home: Home, live: Live, straight: dict[str, bytes]
) -> None:
    lessons(home)
    for steps, stop in ((5, "SIGTERM"), (12, "SIGINT"), (25, ".stop")):
        daemon = live("run", home.path)
        daemon.until(f"step {steps}", lambda: home.steps_committed() >= steps)  # noqa: B023 - used at once
        if stop == ".stop":
            (home.path / stop).touch()
        else:
            daemon.signal(signal.Signals[stop])
            daemon.signal(signal.Signals[stop])  # an impatient person, or a service manager and a person
        assert daemon.end(within_s=20) == 0, daemon.said
        assert f"stopped    {stop}" in daemon.said
        assert home.status()["state"] == "stopped"
        state = home.json("current_model/trainer_state.json")
        assert state["cursor"] is not None, f"{stop} was to come in the middle of a batch"
        assert state["cursor"]["step"] == state["global_step"] - state["cursor"]["first_global_step"]
        assert state["global_step"] >= steps
        assert not home.has(".stop")
    last = live("run", home.path, "--until-idle")
    assert last.end() == 0, last.said
    assert home.learnt() == straight


def test_t7_stopped_while_it_is_still_starting_it_ends_in_order(home: Home, live: Live) -> None:
    home.drop("a.jsonl", lesson(1, 2))
    for stop in (signal.SIGTERM, signal.SIGINT):
        daemon = live("run", home.path, "--until-idle")
        daemon.until("up", lambda: "up  " in daemon.said)  # noqa: B023 - used at once
        daemon.signal(stop)
        assert daemon.end(within_s=20) == 0, daemon.said
        assert home.status()["state"] == "stopped"
        assert "Traceback" not in daemon.said
    last = live("run", home.path, "--until-idle")
    assert last.end() == 0, last.said
    assert home.has("trained/a.jsonl")


def test_t8_paused_it_holds_within_a_step_and_goes_on_bit_exact(
    home: Home, live: Live, straight: dict[str, bytes]
) -> None:
    lessons(home)
    daemon = live("run", home.path, "--until-idle")
    daemon.until("step 9", lambda: home.steps_committed() >= 9)
    (home.path / ".pause").touch()
    daemon.until("paused", lambda: home.status()["state"] == "paused")
    held_at, head = home.status()["global_step"], home.head()
    assert home.steps_committed() == held_at, "what was learnt before a pause is to be committed"
    time.sleep(0.5)
    assert home.head() == head
    assert held_at < STEPS, "it was to be paused in the middle"
    (home.path / ".pause").unlink()
    assert daemon.end() == 0, daemon.said
    assert home.events("TrainingResumed")
    assert home.learnt() == straight
