"""Prove a merged model: every tensor against the formula, then its answers against base + adapter.

Guarantees:
    * ``verify_tensors`` reads back every byte that was written. Each must be what the formula gives when computed anew;
      and a sample of rows of every changed weight must agree with a float64 computation that shares no code with the
      merge, so an error in the merge itself is not simply made twice.
    * ``verify_answers`` uses nothing of ours: plain transformers on one side, plain peft on the other.
"""

from __future__ import annotations

import gc
import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from actors.consolidator.held_out import NOTHING_HELD_OUT, Measure
from actors.consolidator.merge import (
    FLOATS,
    Block,
    Plan,
    Workbench,
    for_each_block,
    plan_merge,
    read_fully,
    read_tensor,
)
from actors.consolidator.merge_problem import MergeProblem
from actors.consolidator.weights_file import WeightsFile, read_weights_file
from messages.held_out import HeldOut, HeldOutLoss

TENSORS_DIFFER = "NF-MERGE-030"
ANSWERS_DIFFER = "NF-MERGE-031"

PROBES = 8
PROBE_TOKENS = 16
PROMPTS = ("The capital of France is", "def add(a, b):\n    return", "Two and two make", "Guten Morgen, wie")

# Root mean square of the logit differences over the spread of the logits. In fp32 only the order of additions differs
# (1e-6 or so). In 16 bits each weight of the merged model, and of the one before, is rounded on its own: a relative
# 2^-9 (bf16) or 2^-12 (fp16) a weight, which tens of layers and 16-bit activations raise to a per cent or two; a model
# with one wrong or randomly filled layer is off by tens of per cent and more. What is subtler is `verify_tensors`'s.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.1}
AGREEMENT_MIN = 0.95
"""Share of the clearly decided tokens (lead over the second larger than half the spread) both must choose alike."""


class TensorCheck(msgspec.Struct, frozen=True):
    """``kept``: share of the update that survived the rounding, over the sampled rows (1.0 is all of it)."""

    tensors: int
    merged_tensors: int
    size_bytes: int
    kept: float


class AnswerCheck(msgspec.Struct, frozen=True):
    """How far apart the answers are; ``relative`` is what is held against ``tolerance``.

    ``held_out``: the losses on held-out text, if there was any; nothing is held against them here.
    """

    max_logit_difference: float
    relative: float
    tolerance: float
    agreement: float
    held_out: HeldOutLoss | None = None


class _Survival:
    """For each sampled row, (what came of the update in its direction, the update squared). Appending is atomic."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float]] = []

    def kept(self) -> float:
        wanted = math.fsum(row[1] for row in self.rows)
        return math.fsum(row[0] for row in self.rows) / wanted if wanted else 1.0


def verify_tensors(base: Path, adapters: list[Path], out: Path) -> TensorCheck:
    """Compare every byte of ``out`` with the formula.

    Raises:
        MergeProblem: something differs (``NF-MERGE-030``), or base and adapters cannot be merged at all.
    """
    plan = plan_merge(base, adapters)
    expected = {file.path.name for file in plan.files}
    found = {path.name for path in out.glob("*.safetensors")}
    if expected != found:
        raise MergeProblem(TENSORS_DIFFER, f"{out} holds {sorted(found)} where {sorted(expected)} were to be written")
    for name in plan.copied:
        if not (out / name).is_file() or (out / name).read_bytes() != (base / name).read_bytes():
            raise MergeProblem(TENSORS_DIFFER, f"{out / name} is not a copy of the base's")
    survival = _Survival()
    for file in plan.files:
        written = read_weights_file(out / file.path.name, TENSORS_DIFFER)
        if written.preamble != file.preamble:
            raise MergeProblem(TENSORS_DIFFER, f"{written.path}: names, shapes or dtypes differ from the base's")
        _compare(plan, file, written.path, survival)
    return TensorCheck(
        tensors=sum(len(file.tensors) for file in plan.files),
        merged_tensors=len(plan.deltas),
        size_bytes=sum(file.size for file in plan.files),
        kept=survival.kept(),
    )


def _compare(plan: Plan, file: WeightsFile, written: Path, survival: _Survival) -> None:
    source = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    result = os.open(written, os.O_RDONLY | os.O_CLOEXEC)

    def check(bench: Workbench, block: Block) -> None:
        formula = bench.load(source, block)
        there = bench.read_beside(result, block)
        if not torch.equal(formula, there):
            tensor = next(place.name for place in file.tensors if place.start <= block.start < place.end)
            raise MergeProblem(TENSORS_DIFFER, f"{written}: {tensor} is not what base + deltas give")
        if block.fold is not None:
            _check_sampled_rows(plan, block, source, there, survival)

    try:
        for_each_block(plan, file, check)
    finally:
        os.close(result)
        os.close(source)


def _check_sampled_rows(plan: Plan, block: Block, source: int, there: torch.Tensor, survival: _Survival) -> None:
    """The first and the last row of each changed weight, in float64 and straight from the factors' files."""
    assert block.fold is not None
    weight = block.fold.weight
    dtype = FLOATS[weight.dtype]
    written = there.view(dtype).view(block.rows, -1)
    for row in sorted({0, weight.shape[0] - 1}):
        if not block.first_row <= row < block.first_row + block.rows:
            continue
        row_bytes = block.size // block.rows
        raw = torch.empty(row_bytes, dtype=torch.uint8)
        read_fully(source, memoryview(raw.numpy()), weight.start + row * row_bytes)
        before = raw.view(dtype).double()
        delta, magnitude = torch.zeros_like(before), before.abs()
        for low_rank in plan.deltas[weight.name]:
            a = read_tensor(low_rank.file, low_rank.factor_a).double()
            b = read_tensor(low_rank.file, low_rank.factor_b).double()
            one, all_others = (a[:, row], b.T) if low_rank.transposed else (b[row], a)
            delta += low_rank.scaling * (one @ all_others)
            magnitude += abs(low_rank.scaling) * (one.abs() @ all_others.abs())
        after = written[row - block.first_row].double()
        exact = before + delta
        # One step of the dtype, and the rounding of the fp32 sums before it.
        slack = torch.finfo(dtype).eps * exact.abs() + torch.finfo(dtype).tiny + 2**-20 * magnitude
        if bool(((after - exact).abs() > slack).any()):
            raise MergeProblem(TENSORS_DIFFER, f"row {row} of {weight.name} is not base + deltas in float64")
        survival.rows.append((float((after - before) @ delta), float(delta @ delta)))


def verify_answers(
    last_base: Path,
    adapter: Path,
    out: Path,
    probes: Sequence[Sequence[int]] = (),
    *,
    held_out: HeldOut = NOTHING_HELD_OUT,
) -> AnswerCheck:
    """Ask ``out``, and ``last_base`` with ``adapter`` on it, the same things. One model in memory at a time.

    Each is also measured on ``held_out``, and so is ``last_base`` without the adapter.

    Raises:
        MergeProblem: it does not load, lacks weights, or answers differently (``NF-MERGE-031``).
    """
    # Imported here: the tensors can be verified without either.
    from peft import PeftModel

    merged, merged_gaps = _load(out)
    asked = [list(probe) for probe in probes] or probe_ids(out, _vocabulary(merged))
    dtype = merged.dtype
    answers = _logits(merged, asked)
    measure = Measure(held_out, sum(each.numel() for each in merged.parameters()))
    merged_loss = measure.loss(merged)
    del merged
    gc.collect()
    model, gaps = _load(last_base)
    if merged_gaps != gaps:
        raise MergeProblem(
            ANSWERS_DIFFER, f"{out} loads with {merged_gaps or 'no gaps'}, {last_base} with {gaps or 'none'}"
        )
    with_adapter = PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
    expected = _logits(with_adapter, asked)
    adapter_loss = measure.loss(with_adapter)
    with with_adapter.disable_adapter():
        yesterday_loss = measure.loss(with_adapter)
    del model, with_adapter
    gc.collect()
    check = _judge(answers, expected, TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16]))
    return msgspec.structs.replace(
        check, held_out=measure.told(merged=merged_loss, adapter=adapter_loss, yesterday=yesterday_loss)
    )


def probe_ids(folder: Path, vocabulary: int) -> list[list[int]]:
    """Token ids that are always the same: hashed ones, and a few prompts where the folder has a tokenizer."""
    probes = []
    for probe in range(PROBES):
        ids = []
        for position in range(PROBE_TOKENS):
            digest = hashlib.blake2b(f"{probe}/{position}".encode(), key=b"nightfold probe", digest_size=8).digest()
            ids.append(int.from_bytes(digest, "little") % vocabulary)
        probes.append(ids)
    if (folder / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        for prompt in PROMPTS:
            ids = tokenizer.encode(prompt).ids[:PROBE_TOKENS]
            if ids and max(ids) < vocabulary:
                probes.append(ids)
    return probes


def _load(folder: Path) -> tuple[Any, str]:
    from transformers import AutoModelForCausalLM

    model, loading = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype="auto", output_loading_info=True, local_files_only=True
    )
    gaps = {kind: sorted(map(str, names)) for kind, names in loading.items() if names}
    return model.eval(), "; ".join(f"{kind} {names[:3]}" for kind, names in sorted(gaps.items()))


def _vocabulary(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def _logits(model: Any, probes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([list(probe)])).logits[0].float() for probe in probes]


def _judge(answers: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> AnswerCheck:
    got, wanted = torch.cat(answers), torch.cat(expected)  # (tokens, vocabulary)
    if got.shape != wanted.shape or not bool(torch.isfinite(got).all()):
        raise MergeProblem(ANSWERS_DIFFER, "the merged model's logits are not finite or have another shape")
    difference = got - wanted
    spread = float(wanted.std()) or 1.0
    top = wanted.topk(2, dim=-1)
    decided = top.values[:, 0] - top.values[:, 1] > spread / 2
    alike = (got.argmax(-1) == top.indices[:, 0])[decided]
    check = AnswerCheck(
        max_logit_difference=float(difference.abs().max()),
        relative=float(difference.square().mean().sqrt()) / spread,
        tolerance=tolerance,
        agreement=float(alike.float().mean()) if alike.numel() else 1.0,
    )
    if check.relative > tolerance or check.agreement < AGREEMENT_MIN:
        raise MergeProblem(
            ANSWERS_DIFFER,
            f"the merged model does not answer as base + adapter: logits differ by {check.relative:.2g} of their "
            f"spread (at most {tolerance:g}), and {check.agreement:.0%} of the decided tokens agree",
        )
    return check
