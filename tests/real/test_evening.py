"""A first evening through the command line, each command in an interpreter of its own: what a person would find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.daemons import Home, chat, command, lesson

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("evening"),
    # PEFT still asks transformers for an attribute by its old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Home:
    """A home after one run over three good files and one bad one."""
    home = Home(tmp_path_factory.mktemp("evening") / "home", tiny_model)
    # Faster than the other homes learn, for what it has learnt is to be seen in what it says.
    home.configure(trainer={"rank": 8, "epochs": 6, "batch_examples": 4})
    for number in (1, 2):
        home.drop(f"good {number}.jsonl", lesson(number, 4))
    home.drop("good 3.jsonl", [chat("What is the secret word?", "lantern")] * 40)
    home.drop("bad.jsonl", [*lesson(3, 1), '{"prompt": 3, "completion": "x"}', "", "not JSON"])
    done = command("run", home.path, "--until-idle")
    assert done.returncode == 3, done.stdout + done.stderr
    return home


def test_three_good_files_are_trained_each_with_its_receipt(evening: Home) -> None:
    names = sorted(path.name for path in (evening.path / "trained").iterdir())
    good = [f"good {number}.jsonl" for number in (1, 2, 3)]
    assert names == sorted([*good, *(f"{name}.receipt.json" for name in good)])
    step = 0
    for name, examples in zip(good, (4, 4, 40), strict=True):
        receipt = evening.json(f"trained/{name}.receipt.json")
        assert (receipt["name"], receipt["examples"], receipt["epochs"]) == (name, examples, 6)
        assert receipt["loss_after"] < receipt["loss_before"]
        assert receipt["tokens_trained"] > 6 * examples
        assert receipt["first_global_step"] == step + 1
        step = receipt["last_global_step"]
    assert step == evening.steps_committed() == evening.status()["global_step"]


def test_the_bad_file_is_rejected_with_a_report_that_names_its_lines(evening: Home) -> None:
    assert evening.has("rejected/bad.jsonl")
    report = evening.json("rejected/bad.jsonl.report.json")
    assert report["trouble"]["code"] == "NF-DATA-001"
    assert [error["line"] for error in report["errors"]] == [2, 4]
    assert report["error_count"] == 2
    assert report["good_lines"] == 1
    assert evening.status()["counts"] == {"trained": 3, "rejected": 1, "failed": 0}
    assert "bad.jsonl" in evening.status()["last_error"]["message"]


def test_nothing_is_left_lying_about(evening: Home) -> None:
    assert list((evening.path / "inbox").iterdir()) == []
    assert [path.name for path in (evening.path / "state" / "batches").iterdir()] == ["LAST"]
    assert not [path for path in evening.path.rglob(".*") if path.name.endswith((".tmp", ".part", ".deleting"))]


def test_current_model_loads_with_plain_peft_and_has_learnt(evening: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.chdir(evening.path)
    tokenizer = AutoTokenizer.from_pretrained("model")
    base = AutoModelForCausalLM.from_pretrained("model")
    model = PeftModel.from_pretrained(base, "current_model")
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the secret word?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    said = model.generate(**asked, max_new_tokens=12, do_sample=False)
    assert tokenizer.decode(said[0, asked["input_ids"].shape[1] :], skip_special_tokens=True).strip() == "lantern"
