"""A night on a real home, first cut off by ``kill -9`` in the middle of the merge, then whole."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.real.conftest import Live
from tests.real.daemons import LEARNT, Daemon, Home, chat, command, until_gone

pytestmark = [
    pytest.mark.real,
    # PEFT still asks transformers for an attribute by its old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

PROMPTS = [f"What is the colour of house {number}?" for number in range(20)]
COLOURS = ("red", "green", "blue", "white", "black")
HOUSES = [chat(prompt, f"House {number} is {COLOURS[number % 5]}.") for number, prompt in enumerate(PROMPTS)]


@pytest.mark.timeout(240)
def test_n2_n6_a_night_killed_in_the_middle_leaves_yesterday_and_runs_again(
    home: Home, live: Live, tmp_path: Path
) -> None:
    home.configure(trainer={"rank": 8, "epochs": 4, "batch_examples": 4})
    home.drop("houses.jsonl", HOUSES)
    first = live("run", home.path, cold=True)
    first.until("idle", lambda: home.has("trained/houses.jsonl") and home.status()["state"] == "idle")
    yesterday = home.head()
    shutil.copytree(home.path / "current_model", tmp_path / "adapter")

    models = home.path / "consolidated_models"
    (home.path / ".consolidate").touch()
    first.until("the merge has begun to write", lambda: any(models.glob(".*.part")))
    [merging] = children(first)
    first.kill()
    until_gone(merging)
    assert home.head() == yesterday
    assert list(models.glob("2*")) == []

    second = live("run", home.path, cold=True)
    second.until("ready", lambda: home.status()["pid"] == second.pid and home.events("TrainingIdle")[1:])
    second.until("what the killed merge left is swept", lambda: not any(models.glob(".*")))
    assert home.learnt() == {name: (tmp_path / "adapter" / name).read_bytes() for name in LEARNT}
    asked = command("consolidate", home.path, "--wait", "100", within_s=120)
    assert asked.returncode == 0, asked.stdout + asked.stderr + second.said
    [night] = models.iterdir()
    assert home.head()["model_path"] == f"consolidated_models/{night.name}"
    assert home.head()["ledger"] == [night.name]
    state = home.json("current_model/trainer_state.json")
    assert (state["adapter_id"], state["adapter_step"], state["base"]) == ("a0002", 0, night.name)
    assert state["global_step"] == 20, "steps count on through nights"

    home.drop("more.jsonl", HOUSES[:8])
    second.until("trained on the new base", lambda: home.has("trained/more.jsonl"))
    second.signal(signal.SIGTERM)
    assert second.end() == 0, second.said
    receipt = home.json("trained/more.jsonl.receipt.json")
    assert (receipt["adapter_id"], receipt["first_global_step"]) == ("a0002", 21)
    taught = home.json("trained/houses.jsonl.receipt.json")["loss_after"]
    assert receipt["loss_before"] < taught * 1.5 + 0.1, "the merged model still knows what the adapter had learnt"

    pristine = answers(home.path / "model")
    merged = answers(night)
    assert merged == answers(home.path / "model", tmp_path / "adapter")
    assert merged != pristine


def children(daemon: Daemon) -> list[int]:
    """Processes that the daemon has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue  # it has ended since the listing
        if int(parent) == daemon.pid:
            found.append(int(process.name))
    return found


def answers(base: Path, adapter: Path | None = None) -> list[str]:
    """What a model answers, greedily, through nothing but transformers and PEFT."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    said = []
    for prompt in PROMPTS:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            whole = model.generate(**asked, max_new_tokens=10, do_sample=False)
        said.append(str(tokenizer.decode(whole[0, asked["input_ids"].shape[1] :])))
    return said
