"""A home on a base in bfloat16, where a night may round away what a day has learnt: it is refused, and nothing lost."""

from __future__ import annotations

import signal

import pytest

from tests.real.conftest import Live
from tests.real.daemons import Home, chat, command

pytestmark = [
    pytest.mark.real,
    # PEFT still asks transformers for an attribute by its old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

COLOURS = ("red", "green", "blue", "white", "black")
HOUSES = [
    chat(f"What is the colour of house {number}?", f"House {number} is {COLOURS[number % 5]}.") for number in range(60)
]
LITTLE = {"rank": 8, "learning_rate": 1.5e-5, "epochs": 2, "batch_examples": 4, "checkpoint_every_steps": 100}


def rounded_to_bfloat16(home: Home) -> None:
    """The base as most models are published: a small update of a weight is less than its last bit."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(home.path / "model", dtype=torch.bfloat16)
    model.save_pretrained(home.path / "model")


@pytest.mark.timeout(500)
def test_n10_a_night_that_would_round_away_what_was_learnt_is_refused_with_both_figures_and_the_adapter_is_kept(
    home: Home, live: Live
) -> None:
    rounded_to_bfloat16(home)
    home.configure(trainer=LITTLE)
    home.drop("houses.jsonl", HOUSES)
    first = live("run", home.path)
    first.until("idle", lambda: home.has("trained/houses.jsonl") and home.status()["state"] == "idle")
    receipt = home.json("trained/houses.jsonl.receipt.json")
    assert (receipt["examples"], receipt["held_out"], receipt["steps"]) == (60, 3, 30)
    assert receipt["loss_held_out_after"] < receipt["loss_held_out_before"]
    yesterday, learnt = home.head(), home.learnt()

    (home.path / ".consolidate").touch()
    first.until("refused", lambda: home.events("NightRefused") and home.status()["last_error"], 150)
    [refused] = home.events("NightRefused")
    figures = refused["held_out"]
    assert refused["code"] == "NF-MERGE-032"
    assert figures["merged"] > figures["adapter"] + 0.02, "by more than is allowed"
    assert figures["merged"] < figures["yesterday"], "the rounding takes back, it does no more"
    assert figures["adapter"] == pytest.approx(receipt["loss_held_out_after"], abs=1e-3), "the Trainer's own figure"
    status = home.status()
    assert status["last_error"]["code"] == "NF-MERGE-032"
    assert f"{figures['merged']:.4f}" in status["last_error"]["message"]
    assert f"{figures['adapter']:.4f}" in status["last_error"]["message"]
    assert status["held_out"] == figures
    assert (home.head(), home.learnt()) == (yesterday, learnt), "yesterday is in force and the adapter is kept"
    assert [*(home.path / "consolidated_models").iterdir()] == [], "what was refused takes no space"
    first.signal(signal.SIGTERM)
    assert first.end() == 0, first.said

    # It goes on learning, and what it has learnt by then is not lost in the rounding any more.
    home.configure(trainer=LITTLE | {"learning_rate": 5e-3})
    home.drop("again.jsonl", HOUSES[:24])
    second = live("run", home.path)
    second.until("trained", lambda: home.has("trained/again.jsonl.receipt.json"))
    assert home.json("trained/again.jsonl.receipt.json")["adapter_id"] == "a0001"
    asked = command("consolidate", home.path, "--wait", "150", within_s=180)
    assert asked.returncode == 0, asked.stdout + asked.stderr + second.said
    [verified] = home.events("NightVerified")
    figures = verified["held_out"]
    assert figures["examples"] == 4, "three of the first file and one of the second"
    assert figures["merged"] <= figures["adapter"] + 0.02
    assert figures["adapter"] < figures["yesterday"] - 1.0
    assert len(home.json("current_model/held_out.json")["slices"]) == 2, "it goes on with the fresh adapter"
