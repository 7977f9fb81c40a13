"""The merge: what it writes is base + deltas rounded once, what it cannot do exactly it refuses in words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from actors.consolidator import merge as merge_module
from actors.consolidator.merge import MergeSummary, merge
from actors.consolidator.merge_problem import MergeProblem
from actors.consolidator.verify import probe_ids, verify_answers, verify_tensors
from messages.codes import CODES
from runtime import durable
from runtime.manifest import FileEntry
from tests.actors.consolidator.small_models import load, make_adapter, make_gpt2, make_llama

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::FutureWarning:transformers.*")]


def all_tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def peft_merge(base: Path, adapter: Path, out: Path) -> dict[str, torch.Tensor]:
    PeftModel.from_pretrained(load(base), str(adapter)).merge_and_unload().save_pretrained(out)
    return all_tensors(out)


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().view(torch.uint8).numpy())


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(path: Path, edit: Any) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, so that a small model has many, with a ragged last one."""
    monkeypatch.setattr(merge_module, "BLOCK_BYTES", 3000)


@pytest.mark.parametrize(
    ("dtype", "tied", "shard", "settings"),
    [
        (torch.float32, False, "5GB", {}),
        (torch.bfloat16, False, "200KB", {}),
        (torch.bfloat16, True, "5GB", {"use_rslora": True}),
        (torch.float32, True, "200KB", {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"1.mlp.up_proj": 5}}),
        (torch.float16, False, "5GB", {"target_modules": ["v_proj", "down_proj"], "lora_alpha": 7}),
    ],
)
def test_one_delta_equals_pefts_default_merge_bit_for_bit(
    tmp_path: Path, small_blocks: None, dtype: torch.dtype, tied: bool, shard: str, settings: dict[str, Any]
) -> None:
    base = make_llama(tmp_path / "base", dtype, tied=tied, shard=shard)
    adapter = make_adapter(base, tmp_path / "adapter", **settings)
    summary = merge(base, [adapter], tmp_path / "out")
    ours, theirs = all_tensors(tmp_path / "out"), peft_merge(base, adapter, tmp_path / "peft")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if bits(ours[name]) != bits(theirs[name])] == []
    changed = [name for name, before in all_tensors(base).items() if bits(before) != bits(ours[name])]
    assert len(changed) == summary.merged_tensors == 3 * len(settings.get("target_modules", range(7)))
    assert summary.tensors == len(ours)
    assert {path.name for path in base.iterdir()} == {path.name for path in (tmp_path / "out").iterdir()}
    verify_tensors(base, [adapter], tmp_path / "out")


def test_conv1d_weights_are_merged_transposed(tmp_path: Path, small_blocks: None) -> None:
    base = make_gpt2(tmp_path / "base")
    linears = ["c_attn", "c_proj", "c_fc"]
    adapter = make_adapter(base, tmp_path / "adapter", target_modules=linears, fan_in_fan_out=True)
    merge(base, [adapter], tmp_path / "out")
    ours, theirs = all_tensors(tmp_path / "out"), peft_merge(base, adapter, tmp_path / "peft")
    # peft transposes the product, we multiply the transposed: the last bit of fp32 may differ, no more.
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=2**-22, atol=1e-8)
    assert verify_tensors(base, [adapter], tmp_path / "out").merged_tensors == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_ledger_is_summed_before_the_one_rounding(tmp_path: Path, small_blocks: None, dtype: torch.dtype) -> None:
    base = make_llama(tmp_path / "base", dtype)
    settings: list[dict[str, Any]] = [{}, {"r": 4, "lora_alpha": 3}, {"target_modules": ["q_proj"]}, {}]
    adapters = [make_adapter(base, tmp_path / f"a{n}", seed=n, **each) for n, each in enumerate(settings)]
    merge(base, adapters, tmp_path / "out")
    verify_tensors(base, adapters, tmp_path / "out")
    before, after = all_tensors(base), all_tensors(tmp_path / "out")
    name = "model.layers.1.self_attn.q_proj"
    exact = before[f"{name}.weight"].double()
    for adapter, each in zip(adapters, settings, strict=True):
        factors = load_file(adapter / "adapter_model.safetensors")
        a, b = (factors[f"base_model.model.{name}.lora_{which}.weight"].double() for which in "AB")
        exact += each.get("lora_alpha", 16) / each.get("r", 8) * (b @ a)
    # Half a step is what one rounding costs; rounding every night would cost more. In fp32 the sums are rounded too.
    steps = 0.501 if dtype == torch.bfloat16 else 2
    slack = exact.abs() * torch.finfo(dtype).eps * steps + 4e-9
    assert bool(((after[f"{name}.weight"].double() - exact).abs() <= slack).all())


def test_no_adapters_copy_the_base(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", torch.bfloat16)
    assert merge(base, [], tmp_path / "out").merged_tensors == 0
    assert (tmp_path / "out/model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_a_base_without_the_prefix_is_matched_by_its_ending(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter")
    merge(base, [adapter], tmp_path / "plain")

    def strip(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    edit_tensors(base / "model.safetensors", strip)
    merge(base, [adapter], tmp_path / "out")
    plain, out = all_tensors(tmp_path / "plain"), all_tensors(tmp_path / "out")
    assert all(bits(plain[name]) == bits(out[name.removeprefix("model.")]) for name in plain)


def test_copies_tokenizer_template_and_licence_but_no_other_weights(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    (base / "additional_chat_templates").mkdir()
    kept = ["tokenizer.json", "chat_template.jinja", "LICENSE", "merges.txt", "additional_chat_templates/tool.jinja"]
    for name in [*kept, "pytorch_model.bin", "consolidated.00.pth", ".hidden.json", "training_args.bin"]:
        (base / name).write_text(name)
    merge(base, [make_adapter(base, tmp_path / "adapter")], tmp_path / "out")
    assert [(tmp_path / "out" / name).read_text() for name in kept] == kept
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.safetensors", "config.json", "generation_config.json", "additional_chat_templates", *kept[:-1]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "changes", "word"),
    [
        ("NF-MERGE-020", {"use_dora": True}, "use_dora"),
        ("NF-MERGE-020", {"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ("NF-MERGE-020", {"bias": "all"}, "bias"),
        ("NF-MERGE-020", {"lora_bias": True}, "lora_bias"),
        ("NF-MERGE-020", {"peft_type": "LOHA"}, "LOHA"),
        ("NF-MERGE-020", {"init_lora_weights": "pissa"}, "pissa"),
        ("NF-MERGE-020", {"something_of_next_year": 3}, "something_of_next_year"),
        ("NF-MERGE-022", {"r": 4}, "rank 4"),
        ("NF-MERGE-022", {"r": "many"}, "int"),
        ("NF-MERGE-021", {"fan_in_fan_out": True}, "another base"),
    ],
)
def test_refuses_a_config_it_cannot_merge_exactly(
    tmp_path: Path, code: str, changes: dict[str, Any], word: str
) -> None:
    base = make_llama(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter", target_modules=["down_proj"])
    edit_json(adapter / "adapter_config.json", **changes)
    check_refused(base, adapter, tmp_path / "out", code, word)


def check_refused(base: Path, adapter: Path, out: Path, code: str, word: str, *, begun: bool = False) -> None:
    with pytest.raises(MergeProblem) as caught:
        merge(base, [adapter], out)
    assert caught.value.code == code
    assert word in caught.value.why
    assert code in CODES
    assert out.exists() == begun, "what can be seen beforehand is refused before a byte is written"


PREFIX = "base_model.model.model.layers.0.mlp.down_proj"


@pytest.mark.parametrize(
    ("code", "renamed", "word"),
    [
        ("NF-MERGE-021", "base_model.model.model.layers.9.mlp.down_proj.lora_A.weight", "layers.9"),
        ("NF-MERGE-020", f"{PREFIX}.lora_magnitude_vector", "DoRA"),
        ("NF-MERGE-020", f"{PREFIX}.lora_B.bias", "lora_B.bias"),
        ("NF-MERGE-020", "base_model.model.model.embed_tokens.lora_embedding_A", "embedding"),
        ("NF-MERGE-020", "base_model.model.lm_head.lora_A.weight", "head"),
        ("NF-MERGE-022", f"{PREFIX}.other.lora_A.weight", "alone"),
    ],
)
def test_n12_refuses_tensors_that_match_nothing_or_are_not_plain_lora(
    tmp_path: Path, code: str, renamed: str, word: str
) -> None:
    base = make_llama(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter", target_modules=["down_proj"])

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        tensors[renamed] = tensors.pop(f"{PREFIX}.lora_A.weight")
        if "layers.9" in renamed:
            tensors[renamed.replace("lora_A", "lora_B")] = tensors.pop(f"{PREFIX}.lora_B.weight")

    edit_tensors(adapter / "adapter_model.safetensors", rename)
    check_refused(base, adapter, tmp_path / "out", code, word)


def test_refuses_an_adapter_of_another_base(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter", target_modules=["down_proj"])

    def shrink(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{PREFIX}.lora_A.weight"] = tensors[f"{PREFIX}.lora_A.weight"][:, :-1].contiguous()

    edit_tensors(adapter / "adapter_model.safetensors", shrink)
    check_refused(base, adapter, tmp_path / "out", "NF-MERGE-021", "another base model")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_refuses_an_adapter_that_is_not_finite(tmp_path: Path, number: float) -> None:
    base = make_llama(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter")
    edit_tensors(
        adapter / "adapter_model.safetensors", lambda tensors: tensors[f"{PREFIX}.lora_B.weight"].fill_(number)
    )
    check_refused(base, adapter, tmp_path / "out", "NF-MERGE-023", "lora_B", begun=True)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float16, 200.0), (torch.float32, 1e25)])
def test_refuses_a_result_that_is_not_finite(tmp_path: Path, dtype: torch.dtype, size: float) -> None:
    base = make_llama(tmp_path / "base", dtype)
    adapter = make_adapter(base, tmp_path / "adapter", size=size)
    check_refused(base, adapter, tmp_path / "out", "NF-MERGE-023", "base + deltas", begun=True)


def test_refuses_a_base_it_cannot_read_exactly(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", shard="200KB")
    adapter = make_adapter(base, tmp_path / "adapter")
    out = tmp_path / "out"
    shard = sorted(base.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    for content, word in [(whole[:-1], "describes"), (whole[:5], "complete"), (b"\xff" * 64, "complete")]:
        shard.write_bytes(content)
        check_refused(base, adapter, out, "NF-MERGE-012", word)
    shard.unlink()
    check_refused(base, adapter, out, "NF-MERGE-012", shard.name)
    shard.write_bytes(whole)
    index = base / "model.safetensors.index.json"
    weights = json.loads(index.read_text())["weight_map"]
    edit_json(index, weight_map={name: file for name, file in weights.items() if "norm" not in name})
    check_refused(base, adapter, out, "NF-MERGE-012", "does not name")
    config = (base / "config.json").read_bytes()
    (base / "config.json").write_bytes(b'{"model_type": "\xff\xfe"}')
    check_refused(base, adapter, out, "NF-MERGE-012", "config.json cannot be read")
    (base / "config.json").write_bytes(config)
    edit_json(base / "config.json", quantization_config={"quant_method": "gptq"})
    check_refused(base, adapter, out, "NF-MERGE-011", "quantised")
    edit_json(base / "config.json", quantization_config=None)
    index.unlink()
    (base / "pytorch_model.bin").write_bytes(b"")
    check_refused(base, adapter, out, "NF-MERGE-010", "pickle")


def test_refuses_to_write_where_something_is(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter")
    check_refused(base, adapter, base, "NF-MERGE-013", "exists", begun=True)


def test_n10_verification_finds_every_single_flipped_bit(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", torch.bfloat16)
    adapter = make_adapter(base, tmp_path / "adapter")
    merge(base, [adapter], tmp_path / "out")
    path = tmp_path / "out/model.safetensors"
    whole = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(whole[:8], "little")
    # The first byte is an embedding's, the last a norm's: copied tensors count too. Byte 20 is within the header.
    for position in [20, begin, begin + 100_001, len(whole) // 2, len(whole) - 1]:
        whole[position] ^= 1
        path.write_bytes(whole)
        with pytest.raises(MergeProblem) as caught:
            verify_tensors(base, [adapter], tmp_path / "out")
        assert caught.value.code == "NF-MERGE-030"
        whole[position] ^= 1
    path.write_bytes(whole[:-2])
    with pytest.raises(MergeProblem, match="describes"):
        verify_tensors(base, [adapter], tmp_path / "out")
    path.write_bytes(whole)
    assert verify_tensors(base, [adapter], tmp_path / "out").kept == pytest.approx(1, abs=0.05)
    (tmp_path / "out/stray.safetensors").write_bytes(whole)
    with pytest.raises(MergeProblem, match="stray"):
        verify_tensors(base, [adapter], tmp_path / "out")
    (tmp_path / "out/stray.safetensors").unlink()
    edit_json(tmp_path / "out/config.json", rope_theta=1.0)
    with pytest.raises(MergeProblem, match="not a copy"):
        verify_tensors(base, [adapter], tmp_path / "out")


def test_n10_verification_does_not_repeat_an_error_of_the_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The formula computed anew shares the merge's code; the float64 sample does not, and must find its bugs."""
    base = make_llama(tmp_path / "base", torch.bfloat16)
    adapter = make_adapter(base, tmp_path / "adapter")
    right = merge_module._read_fold

    def forgets_the_scaling(*given: Any) -> Any:
        fold = right(*given)
        return merge_module.Fold(fold.weight, tuple((1.0, left, other) for _, left, other in fold.groups))

    monkeypatch.setattr(merge_module, "_read_fold", forgets_the_scaling)
    merge(base, [adapter], tmp_path / "out")
    with pytest.raises(MergeProblem, match="float64"):
        verify_tensors(base, [adapter], tmp_path / "out")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_n10_answers_are_those_of_the_last_base_with_its_adapter(tmp_path: Path, dtype: torch.dtype) -> None:
    base = make_llama(tmp_path / "base", dtype)
    first, second = (make_adapter(base, tmp_path / f"a{n}", seed=n, size=0.15) for n in (1, 2))
    merge(base, [first], tmp_path / "night1")
    merge(base, [first, second], tmp_path / "night2")
    check = verify_answers(tmp_path / "night1", second, tmp_path / "night2")
    assert 0 < check.relative < (1e-5 if dtype == torch.float32 else 0.05)
    for last_base, adapter in [(base, second), (tmp_path / "night1", first)]:
        with pytest.raises(MergeProblem) as caught:
            verify_answers(last_base, adapter, tmp_path / "night2")
        assert caught.value.code == "NF-MERGE-031"


def test_n10_a_merged_model_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter")
    merge(base, [adapter], tmp_path / "out")
    edit_tensors(tmp_path / "out/model.safetensors", lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(MergeProblem, match="missing_keys"):
        verify_answers(base, adapter, tmp_path / "out")


def test_probes_are_the_same_every_time_and_within_the_vocabulary(tmp_path: Path) -> None:
    probes = probe_ids(tmp_path, 320)
    assert probes == probe_ids(tmp_path, 320)
    assert len({tuple(probe) for probe in probes}) == 8
    assert all(0 <= token < 320 for probe in probes for token in probe)


MEASURED = """
import resource, sys
from pathlib import Path
import torch
from actors.consolidator.merge import merge
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
merge(Path(sys.argv[1]), [Path(sys.argv[2])], Path(sys.argv[3]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
    (base / "config.json").write_text("{}")
    layers = {f"model.layers.{n}.up_proj.weight": torch.full((1024, 4096), 0.5).bfloat16() for n in range(32)}
    save_file(layers, base / "model.safetensors", metadata={"format": "pt"})
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8, "lora_alpha": 16}')
    factors = {}
    for name in layers:
        factors[f"base_model.model.{name.removesuffix('weight')}lora_A.weight"] = torch.full((8, 4096), 0.01)
        factors[f"base_model.model.{name.removesuffix('weight')}lora_B.weight"] = torch.full((1024, 8), 0.01)
    save_file(factors, adapter / "adapter_model.safetensors")
    command = [sys.executable, "-c", MEASURED, str(base), str(adapter), str(tmp_path / "out")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    size = (base / "model.safetensors").stat().st_size
    assert size > 250e6
    assert grown < 110e6, f"merging {size / 1e6:.0f} MB took {grown / 1e6:.0f} MB more memory"


def test_the_summary_says_what_was_written(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    size = (base / "model.safetensors").stat().st_size
    summary = merge(base, [adapter], tmp_path / "out")
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    files = {name: FileEntry(len(data), durable.digest_of_bytes(data)) for name, data in written.items()}
    assert summary == MergeSummary(len(all_tensors(base)), merged_tensors=3, size_bytes=size, files=files)
