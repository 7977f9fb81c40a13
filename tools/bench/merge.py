"""How fast is the merge, and how much memory does it take, beside peft's own and a plain copy?

``python -m tools.bench.merge [--megabytes 300] [--rounds 3] [--deltas 1 30] [--in FOLDER]``. Each way runs in a process
of its own, in turn, round after round, with the files in the page cache and everything fsynced; medians are printed,
with the range. Wall time includes the imports, as a night pays for them; ``cp`` has none.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from shutil import rmtree

import msgspec

PROJECT = Path(__file__).resolve().parents[2]

OURS = """
import sys
from pathlib import Path
from actors.consolidator.merge import merge
merge(Path(sys.argv[1]), [Path(name) for name in sys.argv[3:]], Path(sys.argv[2]))
"""
OURS_VERIFIED = """
import sys
from pathlib import Path
from actors.consolidator.merge import merge
from actors.consolidator.verify import verify_tensors
base, out, adapters = Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
merge(base, adapters, out)
verify_tensors(base, adapters, out)
"""
IMPORTS_ALONE = "import actors.consolidator.merge"
PEFT = """
import os, sys
from pathlib import Path
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto")
for number, adapter in enumerate(sys.argv[3:]):
    model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
model.save_pretrained(sys.argv[2], max_shard_size="100GB")
for path in Path(sys.argv[2]).iterdir():
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
"""
COPY = "cp -r {base} {out} && sync -d {out}/*"


class Run(msgspec.Struct, frozen=True):
    """One way, once."""

    seconds: float
    peak_bytes: int


def main(arguments: list[str] | None = None) -> int:
    """Build the models, run every way in turn, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.merge", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=300, help="about how large the bf16 model is")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deltas", type=int, nargs="+", default=[1, 30], help="sizes of the ledgers to merge")
    parser.add_argument("--in", dest="folder", type=Path, help="where to work (default: the temporary folder)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="bench-merge-") as work:
        results, size = run_all(Path(work), given.megabytes, given.rounds, given.deltas)
    if given.json:
        print(json.dumps({name: [msgspec.structs.asdict(run) for run in runs] for name, runs in results.items()}))
    else:
        show(results, size)
    return 0


def run_all(work: Path, megabytes: int, rounds: int, deltas: list[int]) -> tuple[dict[str, list[Run]], int]:
    """Every way ``rounds`` times, interleaved, so that a slow minute of the machine falls on all."""
    base, out = work / "base", work / "out"
    # In a process of its own: a process begins with the peak memory of the one that started it, so ours stays small.
    building = multiprocessing.get_context("spawn").Process(target=build, args=(work, megabytes, max(deltas)))
    building.start()
    building.join()
    if building.exitcode != 0:
        raise RuntimeError("the models could not be built")
    adapters = [str(work / f"adapter{number}") for number in range(max(deltas))]
    python = [sys.executable, "-c"]
    ways: dict[str, list[str]] = {
        "cp + fsync": ["sh", "-c", COPY.format(base=base, out=out)],
        "imports alone": [*python, IMPORTS_ALONE],
    }
    for count in deltas:
        given = [str(base), str(out), *adapters[:count]]
        ways[f"ours, {count} delta(s)"] = [*python, OURS, *given]
        ways[f"ours + verify, {count} delta(s)"] = [*python, OURS_VERIFIED, *given]
    ways["peft, 1 delta"] = [*python, PEFT, str(base), str(out), adapters[0]]
    results: dict[str, list[Run]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # The first round warms the caches and is not counted.
        for name, command in ways.items():
            rmtree(out, ignore_errors=True)
            os.sync()
            run = run_once(command)
            if number > 0:
                results[name].append(run)
    return results, sum(path.stat().st_size for path in base.glob("*.safetensors"))


def run_once(command: list[str]) -> Run:
    """Wall time and peak resident memory of one process and what it starts."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    silence = os.open(os.devnull, os.O_WRONLY)
    begun = time.perf_counter()
    process = os.posix_spawnp(
        command[0],
        command,
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, silence, descriptor) for descriptor in (1, 2)],
    )
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - begun
    os.close(silence)
    if status != 0:
        raise RuntimeError(f"{command[0]} ended with status {os.waitstatus_to_exitcode(status)}: {command[2][:200]}")
    # Linux counts in kilobytes, macOS in bytes.
    return Run(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def show(results: dict[str, list[Run]], size: int) -> None:
    """Medians, ranges, and ratios to the two that matter."""
    median = {name: statistics.median(run.seconds for run in runs) for name, runs in results.items()}
    print(f"model: {size / 1e6:.0f} MB bf16, {os.cpu_count()} processors\n")
    print(f"{'way':28} {'wall s':>8} {'(range)':>15} {'peak MB':>8} {'x cp':>6} {'x peft':>7}")
    for name, runs in results.items():
        seconds = [run.seconds for run in runs]
        spread = f"({min(seconds):.2f}-{max(seconds):.2f})"
        peak = statistics.median(run.peak_bytes for run in runs) / 1e6
        against_copy, against_peft = median[name] / median["cp + fsync"], median[name] / median["peft, 1 delta"]
        print(f"{name:28} {median[name]:8.2f} {spread:>15} {peak:8.0f} {against_copy:6.2f} {against_peft:7.2f}")


def build(work: Path, megabytes: int, adapters: int) -> None:
    """The base and the adapters."""
    make_model(work / "base", megabytes)
    for number in range(adapters):
        make_adapter(work / "base", work / f"adapter{number}", number)


def make_model(folder: Path, megabytes: int) -> None:
    """A random Llama of the wanted size: as many layers as it takes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    width, inner = 1024, 2816
    layer_bytes = 2 * (2 * width * width + 2 * width * width // 4 + 3 * width * inner)
    config = LlamaConfig(
        vocab_size=16384, hidden_size=width, intermediate_size=inner, num_attention_heads=16, num_key_value_heads=4,
        num_hidden_layers=max(1, (megabytes * 1_000_000 - 2 * 16384 * width) // layer_bytes), tie_word_embeddings=True,
        dtype="bfloat16",
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size="100GB")


def make_adapter(base: Path, folder: Path, seed: int) -> None:
    """Rank 16 on all linear layers, random factors."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    factors = {}
    with safe_open(base / "model.safetensors", "pt") as weights:
        for name in weights.keys():  # noqa: SIM118 - safe_open is no mapping
            if name.endswith("_proj.weight"):
                rows, columns = weights.get_slice(name).get_shape()
                module = f"base_model.model.{name.removesuffix('.weight')}"
                factors[f"{module}.lora_A.weight"] = torch.randn((16, columns), generator=generator) * 0.01
                factors[f"{module}.lora_B.weight"] = torch.randn((rows, 16), generator=generator) * 0.01
    folder.mkdir()
    save_file(factors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    names = sorted({name.split(".")[-3] for name in factors})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 16, "lora_alpha": 32, "target_modules": names}
    (folder / "adapter_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    sys.exit(main())
