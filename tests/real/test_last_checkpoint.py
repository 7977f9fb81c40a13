"""The commit that ends a file, cut off by a real kill; and a file that fails for good, beside others that do not."""

from __future__ import annotations

import json
import signal

import pytest
from safetensors.torch import load

from tests.real.conftest import STEPS, Live, lessons
from tests.real.daemons import Home, command, lesson

pytestmark = pytest.mark.real

# In the generation's first file, in one of its last, at the name it gets, half-way through the new HEAD, and when only
# the link is not moved yet.
OPERATIONS = (2, 16, 24, 27, 31)


@pytest.mark.timeout(240)
def test_b5_killed_in_the_last_checkpoint_of_a_file_it_goes_on_from_the_one_before(
    home: Home, live: Live, straight: dict[str, bytes]
) -> None:
    lessons(home)
    story = []
    for operation in OPERATIONS:
        home.configure(**{"plugins.assassin": {"actor": "tests.real.assassin:Assassin", "operation": operation}})
        daemon = live("run", home.path, "--until-idle")
        assert daemon.end() == -signal.SIGKILL, f"no operation {operation}:\n{daemon.said}"
        state = json.loads((home.path / home.head()["generation_path"] / "trainer_state.json").read_bytes())
        story.append((state["global_step"], state["cursor"] is not None))
        moments = load((home.path / home.head()["generation_path"] / "optimizer.safetensors").read_bytes())
        steps = {int(value) for name, value in moments.items() if name.startswith("step/")}
        assert steps == {state["adapter_step"]} == {state["global_step"]}, f"of one moment, at {operation}"
    assert story[0][1], "the checkpoint before the last of a file"
    assert {half for _, half in story} == {True, False}, f"some before HEAD moved, some after: {story}"
    home.configure()
    last = live("run", home.path, "--until-idle")
    assert last.end() == 0, last.said
    assert home.steps_committed() == STEPS
    assert home.learnt() == straight, story
    receipt = home.json("trained/first.jsonl.receipt.json")
    assert (receipt["first_global_step"], receipt["last_global_step"]) == (1, 20)


def test_t3_a_file_that_fails_for_good_lies_in_failed_and_retry_puts_it_back(home: Home, live: Live) -> None:
    home.configure(trainer={"max_length": 32, "over_long": "reject"})
    home.drop("a_long.jsonl", lesson(1, 2, words=60))
    home.drop("b_short.jsonl", [{"prompt": f"{number}?", "completion": " yes"} for number in range(4)])
    first = live("run", home.path, "--until-idle")
    assert first.end() == 3, first.said
    assert home.has("trained/b_short.jsonl"), "the next goes on"
    report = home.json("failed/a_long.jsonl.report.json")
    assert report["trouble"]["code"] == "NF-TRAIN-002"
    assert home.status()["counts"] == {"trained": 1, "rejected": 0, "failed": 1}
    generation = home.steps_committed()
    home.configure()
    told = command("retry", home.path, "a_long.jsonl")
    assert told.returncode == 0, told.stderr
    assert not home.has("failed/a_long.jsonl.report.json")
    again = live("run", home.path, "--until-idle")
    assert again.end() == 0, again.said
    receipt = home.json("trained/a_long.jsonl.receipt.json")
    assert receipt["first_global_step"] == generation + 1
