"""Models are measured on the same held-out tokens, and one that is a little worse in every logit is seen to be so."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.consolidator.actor import worse
from actors.consolidator.held_out import PARAMETER_TOKENS_MAX, TOKENS_MIN, Measure, chosen, kept_in_generation
from actors.consolidator.merge import merge
from actors.consolidator.merge_problem import MergeProblem
from actors.consolidator.merger import MergeDone, MergeRequest
from actors.consolidator.process_merger import ProcessMerger
from actors.consolidator.verify import verify_answers, verify_tensors
from messages.held_out import HELD_OUT, HeldOut, HeldOutSlice, HeldOutWindow
from runtime.disk import Disk
from tests.actors.consolidator.small_models import load, make_adapter, make_llama

pytestmark = [
    pytest.mark.real,
    # The child is nice: where every core has a busy test, it gets a tenth of one.
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers.*"),
]

TOLERANCE = 0.02


def known_by_heart(base: Path, adapter: Path, count: int = 6, tokens: int = 24) -> HeldOut:
    """What base and adapter say themselves, greedily: text that they know, so whoever is less sure of it knows less."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(load(base), str(adapter)).eval()
    windows = []
    for number in range(count):
        ids = [number + 3]
        while len(ids) < tokens:
            with torch.inference_mode():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        windows.append(HeldOutWindow(tuple(ids), ((1, tokens),)))
    return HeldOut(slices=(HeldOutSlice("a", tuple(windows)),))


def put(generation: Path, held_out: HeldOut) -> None:
    (generation / HELD_OUT).write_bytes(msgspec.json.encode(held_out))


def all_scaled(factor: float) -> Callable[[dict[str, torch.Tensor]], None]:
    """An error of the arithmetic: every logit is a little too small, and the order of them as it was."""

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] *= factor

    return edit


def one_row(tensors: dict[str, torch.Tensor]) -> None:
    """One row of one tensor was not written: that of a token which the text has often."""
    tensors["lm_head.weight"][93] = 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_n10_a_sound_merge_is_as_good_on_held_out_text_as_base_and_adapter(tmp_path: Path, dtype: torch.dtype) -> None:
    base = make_llama(tmp_path / "base", dtype)
    adapter = make_adapter(base, tmp_path / "adapter", size=0.15)
    held_out = known_by_heart(base, adapter)
    merge(base, [adapter], tmp_path / "out")
    found = verify_answers(base, adapter, tmp_path / "out", held_out=held_out).held_out
    assert found is not None
    assert (found.examples, found.tokens) == (6, 6 * 23)
    assert found.yesterday > found.adapter + 0.1, "the adapter has learnt it"
    assert worse(found, TOLERANCE) == ""
    assert abs(found.merged - found.adapter) < (1e-5 if dtype == torch.float32 else TOLERANCE)
    # Sums in 16 bits would hide what 16 bits of a weight have lost, so a model of this size is summed in 32.
    in_float32 = Measure(held_out, parameters=0).loss(load(base).float())
    assert found.yesterday == pytest.approx(in_float32, abs=1e-5)


@pytest.mark.parametrize("edit", [all_scaled(0.94), one_row], ids=["every logit a little", "one row"])
def test_n10_an_error_that_the_logits_let_pass_is_refused_with_both_figures(
    tmp_path: Path, edit: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    base = make_llama(tmp_path / "base", torch.bfloat16)
    adapter = make_adapter(base, tmp_path / "adapter", size=0.15)
    held_out = known_by_heart(base, adapter)
    merge(base, [adapter], tmp_path / "out")
    verify_tensors(base, [adapter], tmp_path / "out")
    tensors = load_file(tmp_path / "out/model.safetensors")
    edit(tensors)
    save_file(tensors, tmp_path / "out/model.safetensors", metadata={"format": "pt"})
    check = verify_answers(base, adapter, tmp_path / "out", held_out=held_out)
    assert check.relative < check.tolerance, "or it would have been refused for its answers"
    assert check.held_out is not None
    told = worse(check.held_out, TOLERANCE)
    assert f"{check.held_out.merged:.4f}" in told
    assert f"{check.held_out.adapter:.4f}" in told


async def test_n10_the_child_measures_on_what_the_generation_keeps(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", torch.bfloat16)
    adapter = make_adapter(base, tmp_path / "generation", size=0.15)
    merger = ProcessMerger(Disk(tmp_path), base, timeout_seconds=300)
    nothing = await merger.merge(MergeRequest(("generation",), "first", ""))
    assert isinstance(nothing, MergeDone)
    assert nothing.held_out is None, "a generation of an older version keeps nothing, and the answers alone decide"
    put(adapter, known_by_heart(base, adapter))
    done = await merger.merge(MergeRequest(("generation",), "second", ""))
    assert isinstance(done, MergeDone)
    assert done.held_out is not None
    assert done.held_out.tokens == 6 * 23
    assert done.held_out.yesterday > done.held_out.adapter


def test_the_loss_is_the_mean_over_the_tokens_that_count(tmp_path: Path) -> None:
    model = load(make_llama(tmp_path / "base")).eval()
    one, two = HeldOutWindow((5, 6, 7, 8), ((1, 2), (3, 4))), HeldOutWindow((9, 10), ((0, 2),))
    found = Measure(HeldOut(slices=(HeldOutSlice("a", (one, two)),)), parameters=1).loss(model)
    with torch.inference_mode():
        sure = [model(input_ids=torch.tensor([window.ids])).logits[0].double().log_softmax(-1) for window in (one, two)]
    assert found == pytest.approx(-float(sure[0][0, 6] + sure[0][2, 8] + sure[1][0, 10]) / 3, rel=1e-5)


def test_a_loss_that_is_not_finite_refuses(tmp_path: Path) -> None:
    measure = Measure(HeldOut(slices=(HeldOutSlice("a", (HeldOutWindow((5, 6), ((1, 2),)),)),)), parameters=1)
    with pytest.raises(MergeProblem) as caught:
        measure.told(merged=math.nan, adapter=1.0, yesterday=2.0)
    assert caught.value.code == "NF-MERGE-032"
    assert "nan" in caught.value.why
    (tmp_path / HELD_OUT).write_text(json.dumps({"slices": 3}))
    with pytest.raises(MergeProblem, match=r"held_out\.json"):
        kept_in_generation(tmp_path)


def test_a_large_model_is_measured_on_fewer_tokens_but_on_each_file() -> None:
    held_out = HeldOut(
        slices=tuple(
            HeldOutSlice(name, tuple(HeldOutWindow((ord(name), number) * 32, ((1, 64),)) for number in range(8)))
            for name in "abc"
        )
    )
    assert len(chosen(held_out, 10_000)) == 24
    few = chosen(held_out, 4 * 64)
    assert [(chr(window.ids[0]), window.ids[1]) for window in few] == [("c", 0), ("b", 0), ("a", 0), ("c", 1)]
    assert len(chosen(held_out, 3)) == 1, "one at least"
    assert len(Measure(held_out, PARAMETER_TOKENS_MAX)._windows) == TOKENS_MIN // 64
