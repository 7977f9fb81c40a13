"""How long does training stand still for a checkpoint, and when is it durable? Ours beside what others do.

``python -m tools.bench.checkpoint [--layers 12] [--rounds 7] [--steps 12] [--in FOLDER] [--json]``. One process, one
model (a random Llama, LoRA r=16 on all linear layers, moments of AdamW), every way in turn, round after round; medians
with the range. *Blocked* is until the next step could begin; *durable* is until what was saved would survive a power
cut. HF Trainer does not ask for that: an fsync of its files is added to *durable*, and not to *blocked*.

A second table has whole steps, alone and with a commit of ours in a thread beside them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any

from actors.checkpointer.store import Store
from actors.trainer.settings import TrainerSettings
from messages import Cursor, LearningState
from runtime.disk import Disk

Timing = tuple[float, float]
"""(seconds blocked, seconds until durable)."""
EXAMPLES = 64


def main(arguments: list[str] | None = None) -> int:
    """Build the model, take turns, print both tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.checkpoint", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--layers", type=int, default=12, help="of the model; 12 are about 90 million parameters")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12, help="steps of the second table, each way; 0 leaves it out")
    parser.add_argument("--in", dest="folder", type=Path, help="where to work (default: the temporary folder)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="bench-checkpoint-") as work:
        bench = Bench(Path(work), given.layers)
        timings = bench.in_turn(given.rounds)
        steps = bench.steps_alone_and_beside(given.steps) if given.steps else ([], [])
    if given.json:
        print(json.dumps({"ways": timings, "steps": steps, "megabytes": bench.megabytes}))
    else:
        show(timings, steps, bench.megabytes)
    return 0


class Bench:
    """The model with its engine, and every way of saving it."""

    def __init__(self, work: Path, layers: int) -> None:
        from actors.trainer.torch_engine import TorchEngine

        self.work = work
        build(work / "model", layers)
        (work / "batch.jsonl").write_text(
            "".join(json.dumps({"text": f"{number} " * 40}) + "\n" for number in range(EXAMPLES))
        )
        self.disk = Disk(work)
        self.store = Store(self.disk, keep_generations=2, keep_snapshots=1, keep_nights=1)
        self.store.open()
        self.engine = TorchEngine(self.disk, TrainerSettings(batch_examples=2, epochs=200, device="cpu"))
        info = self.engine.load(LearningState(), "", "")
        self.state = LearningState(base_fingerprint=info.fingerprint, threads=info.threads)
        self.engine.open_batch("batch.jsonl", Cursor("1", "b", "batch.jsonl", "blake3:0", EXAMPLES, 0, 0, 0, 0), 0)
        self.step_number = 0
        self.step()
        loaded = self.engine._loaded
        assert loaded is not None, "the engine was just loaded"
        self.model, self.optimizer = loaded.adapter.model, loaded.optimizer
        snapshot = self.engine.snapshot()
        self.megabytes = sum(len(content) for content in snapshot.values()) / 1e6
        self.engine.reuse(snapshot)
        self._trainer = self._hugging_face_trainer()
        self._group_begun()

    def step(self) -> float:
        """One training step; its seconds."""
        began = time.perf_counter()
        self.engine.step(self.step_number)
        self.step_number += 1
        return time.perf_counter() - began

    def in_turn(self, rounds: int) -> dict[str, list[Timing]]:
        """Every way, ``rounds`` times, with a step between; the first round warms up and is not counted."""
        ways: dict[str, Callable[[], Timing]] = {
            "nightfold": self.ours,
            "clone, write in a thread": self.cloned,
            "torch.save, fsync, rename": self.torch_save,
            "HF Trainer save_checkpoint": self.hugging_face,
            "torch DCP save": self.dcp,
            "torch DCP async_save": self.dcp_async,
        }
        timings: dict[str, list[Timing]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                self.step()
                os.sync()
                timing = way()
                if number > 0:
                    timings[name].append(timing)
        return timings

    def steps_alone_and_beside(self, count: int) -> tuple[list[float], list[float]]:
        """Seconds of single steps, without and with a commit of ours in a thread beside them, in turn."""
        alone: list[float] = []
        beside: list[float] = []
        for _ in range(count):
            alone.append(self.step())
            snapshot = self.engine.snapshot()
            writer = threading.Thread(target=self._commit, args=(snapshot,))
            writer.start()
            beside.append(self.step())
            writer.join()
            self.engine.reuse(snapshot)
        return alone, beside

    # The ways.

    def ours(self) -> Timing:
        """The engine's snapshot, committed as the Checkpointer does it: hashed, synced, read back, HEAD replaced."""
        began = time.perf_counter()
        snapshot = self.engine.snapshot()
        blocked = time.perf_counter() - began
        self._commit(snapshot)
        durable = time.perf_counter() - began
        self.engine.reuse(snapshot)
        return blocked, durable

    def _commit(self, snapshot: Any) -> None:
        self.store.commit(snapshot, self.state, "bench", "2026-01-01T00:00:00+00:00")
        self.store.prune()

    def _state(self) -> dict[str, Any]:
        from peft.utils import get_peft_model_state_dict

        return {"adapter": get_peft_model_state_dict(self.model), "optimizer": self.optimizer.state_dict()}

    def cloned(self) -> Timing:
        import torch

        began = time.perf_counter()
        state = torch.utils._pytree.tree_map(
            lambda each: each.detach().clone() if isinstance(each, torch.Tensor) else each, self._state()
        )
        blocked = time.perf_counter() - began
        writer = threading.Thread(target=self._saved, args=(state, "cloned"))
        writer.start()
        writer.join()
        return blocked, time.perf_counter() - began

    def torch_save(self) -> Timing:
        began = time.perf_counter()
        self._saved(self._state(), "saved")
        seconds = time.perf_counter() - began
        return seconds, seconds

    def _saved(self, state: Any, name: str) -> None:
        import torch

        content = io.BytesIO()
        torch.save(state, content)  # the peer's way; nothing of ours is pickled
        path = self.work / f"{name}.part"
        with path.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        path.rename(self.work / name)
        self.disk.fsync_dir(".")

    def _hugging_face_trainer(self) -> Any:
        from transformers import Trainer, TrainingArguments

        arguments = TrainingArguments(output_dir=str(self.work / "hf"), report_to=[], save_only_model=False)
        trainer = Trainer(model=self.model, args=arguments, optimizers=(self.optimizer, None))
        trainer.create_scheduler(1000, self.optimizer)
        return trainer

    def hugging_face(self) -> Timing:
        rmtree(self.work / "hf", ignore_errors=True)
        began = time.perf_counter()
        self._trainer._save_checkpoint(self.model, None)
        blocked = time.perf_counter() - began
        synced(self.work / "hf")
        return blocked, time.perf_counter() - began

    def _group_begun(self) -> None:
        import torch.distributed

        # The asynchronous save wants a process group; this one has one member and meets itself in a file.
        meeting = torch.distributed.FileStore(str(self.work / "meeting"), 1)
        torch.distributed.init_process_group("gloo", store=meeting, rank=0, world_size=1)

    def dcp(self) -> Timing:
        from torch.distributed import checkpoint

        rmtree(self.work / "dcp", ignore_errors=True)
        began = time.perf_counter()
        checkpoint.save(self._state(), checkpoint_id=self.work / "dcp")  # its writer syncs its files by itself
        seconds = time.perf_counter() - began
        return seconds, seconds

    def dcp_async(self) -> Timing:
        from torch.distributed import checkpoint

        rmtree(self.work / "dcp", ignore_errors=True)
        began = time.perf_counter()
        saving: Any = checkpoint.async_save(self._state(), checkpoint_id=self.work / "dcp")
        blocked = time.perf_counter() - began
        saving.result()
        return blocked, time.perf_counter() - began


def synced(folder: Path) -> None:
    """Every file below, and the folders."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def build(folder: Path, layers: int) -> None:
    """The tiny model's tokenizer, and a random Llama of this many layers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tools.tiny_model import build_tiny_model

    build_tiny_model(folder)
    config = LlamaConfig.from_pretrained(folder)
    config.update(
        {
            "hidden_size": 768,
            "intermediate_size": 2048,
            "num_hidden_layers": layers,
            "num_attention_heads": 12,
            "num_key_value_heads": 12,
            "head_dim": 64,
        }
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


def show(timings: dict[str, list[Timing]], steps: tuple[list[float], list[float]], megabytes: float) -> None:
    """Medians, ranges, and ratios."""
    print(f"state: {megabytes:.1f} MB, {os.cpu_count()} processors\n")
    print(f"{'way':28} {'blocked ms':>11} {'(range)':>15} {'durable ms':>11} {'(range)':>15} {'x ours, blocked':>16}")
    least = statistics.median(blocked for blocked, _ in timings["nightfold"])
    for name, runs in timings.items():
        columns = ""
        for place in (0, 1):
            values = [1e3 * run[place] for run in runs]
            columns += f" {statistics.median(values):11.1f} {f'({min(values):.1f}-{max(values):.1f})':>15}"
        print(f"{name:28}{columns} {statistics.median(run[0] for run in runs) / least:16.1f}")
    alone, beside = steps
    if alone:
        one, other = statistics.median(alone), statistics.median(beside)
        ratio = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
        print(f"\na step alone {1e3 * one:.0f} ms, with a commit beside it {1e3 * other:.0f} ms: x {ratio:.3f} (pairs)")
        print(f"blocked at one checkpoint every 30 s: {100 * least / 30:.3f} % of the time")


if __name__ == "__main__":
    sys.exit(main())
