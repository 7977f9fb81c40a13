"""One checkpoint folder of the older trainer, read whole: adapter, config, optimizer, schedule and counters.

Guarantees that what it hands out was read completely and that each piece that was not is a ``Problem`` of its own. It
does not know the base model, so whether names and shapes fit is judged in ``fit``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from actors.consolidator.adapter_delta import HANDLED, HARMLESS, INITS_THAT_SPARE_THE_BASE
from tools.moving_in.notes import Problem
from tools.moving_in.torch_files import UnreadableError, read_torch_file

ADAPTER_CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED_WEIGHTS = "adapter_model.bin"
OPTIMIZER = "optimizer.pt"
SCHEDULER = "scheduler.pt"
STATE = "trainer_state.json"

# A generation is loaded with rank, alpha, rslora and targets alone, so that these two would be lost without a word.
CHANGES_WHAT_IS_LOADED = {"alpha_pattern", "rank_pattern", "layers_to_transform", "exclude_modules"}
PLAIN = (HARMLESS | HANDLED) - CHANGES_WHAT_IS_LOADED
STEPS_MAX = 2**53
RESTORE = "restore the file from a copy or from one of the snapshots"


@dataclass
class OldCheckpoint:
    """What was read. ``None`` or empty: that piece has a problem, or (schedule, adapter_step) was not there."""

    folder: Path
    problems: list[Problem]
    config: dict[str, Any] | None = None
    weights: dict[str, torch.Tensor] | None = None
    optimizer: object = None
    scheduler: dict[str, Any] | None = None
    scheduler_trouble: str = ""
    global_step: int | None = None
    adapter_step: int | None = None

    def problem(self, code: str, file: str, found: str, expected: str, todo: str) -> None:
        self.problems.append(Problem(code, str(self.folder / file), found, expected, todo))


def read_checkpoint(folder: Path, *, fresh_optimizer: bool) -> OldCheckpoint:
    """Read all of it. With ``fresh_optimizer`` the old one is not even opened."""
    read = OldCheckpoint(folder, [])
    if not folder.is_dir():
        read.problem(
            "NF-STATE-011", "", "it is not there", "a folder with the adapter in training", "name the old home's folder"
        )
        return read
    _read_adapter_config(read)
    _read_weights(read)
    _read_counters(read)
    if not fresh_optimizer:
        _read_optimizer(read)
    _read_scheduler(read)
    return read


def _read_object(read: OldCheckpoint, file: str, expected: str) -> dict[str, Any] | None:
    """A JSON file's object, or ``None`` and a problem."""
    code = "NF-STATE-012" if file == ADAPTER_CONFIG else "NF-STATE-014"
    try:
        found = json.loads((read.folder / file).read_bytes())
    except FileNotFoundError:
        read.problem(code, file, "it is missing", expected, RESTORE)
        return None
    except (OSError, ValueError, RecursionError) as error:
        read.problem(code, file, f"it cannot be read: {error}", expected, RESTORE)
        return None
    if not isinstance(found, dict):
        read.problem(code, file, f"it holds a {type(found).__name__}", expected, RESTORE)
        return None
    return found


def _read_adapter_config(read: OldCheckpoint) -> None:
    config = _read_object(read, ADAPTER_CONFIG, "the config that PEFT writes")
    if config is None:
        return
    odd = [f"{name} is {value!r}" for name, value in sorted(config.items()) if value and name not in PLAIN]
    if config.get("peft_type") != "LORA":
        odd.insert(0, f"peft_type is {config.get('peft_type')!r}")
    if config.get("bias", "none") != "none":
        odd.append(f"bias is {config['bias']!r}")
    if config.get("init_lora_weights", True) not in INITS_THAT_SPARE_THE_BASE:
        odd.append(f"init_lora_weights is {config['init_lora_weights']!r}, which also changed the base")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        odd.append(f"r is {rank!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        odd.append(f"lora_alpha is {alpha!r}")
    targets = config.get("target_modules")
    listed = isinstance(targets, list) and all(isinstance(name, str) for name in targets)
    if not targets or not (listed or isinstance(targets, str)):
        odd.append(f"target_modules is {targets!r}")
    if odd:
        todo = (
            "merge it into its base with PEFT (merge_and_unload) and begin a home on the merged model: nightfold init"
        )
        read.problem("NF-STATE-012", ADAPTER_CONFIG, "; ".join(odd), "plain LoRA on linear layers", todo)
        return
    read.config = {"use_rslora": False, **config}


def _read_weights(read: OldCheckpoint) -> None:
    file = WEIGHTS if (read.folder / WEIGHTS).exists() else PICKLED_WEIGHTS
    if not (read.folder / file).exists():
        read.problem("NF-STATE-012", "", "it has no weights", f"{WEIGHTS} or {PICKLED_WEIGHTS}", RESTORE)
        return
    try:
        found = _tensors(read.folder / file)
    except (UnreadableError, SafetensorError, OSError) as error:
        read.problem("NF-STATE-012", file, f"the adapter's weights cannot be read: {error}", "whole tensors", RESTORE)
        return
    weights = {name: tensor.float() for name, tensor in found.items()}
    not_finite = sorted(name for name, tensor in weights.items() if not tensor.isfinite().all())
    if not_finite:
        what = f"{not_finite[0]} and {len(not_finite) - 1} more hold numbers that are not finite"
        read.problem("NF-STATE-012", file, what, "finite numbers", RESTORE)
        return
    read.weights = weights


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    found: object = (
        safetensors.torch.load(path.read_bytes()) if path.suffix == ".safetensors" else read_torch_file(path)
    )
    if not isinstance(found, dict) or not found:
        raise UnreadableError("it holds no tensors")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            raise UnreadableError(f"{name!r} is no tensor of floating-point numbers")
    return found


def _read_counters(read: OldCheckpoint) -> None:
    expected = "global_step, and adapter_step not above it, as whole numbers"
    state = _read_object(read, STATE, expected)
    if state is None:
        return
    steps, of_adapter = state.get("global_step"), state.get("adapter_step")
    if type(steps) is not int or not 0 <= steps <= STEPS_MAX:
        read.problem("NF-STATE-014", STATE, f"global_step is {steps!r}", expected, RESTORE)
        return
    if of_adapter is not None and (type(of_adapter) is not int or not 0 <= of_adapter <= steps):
        found = f"adapter_step is {of_adapter!r} at global_step {steps}"
        read.problem("NF-STATE-014", STATE, found, expected, RESTORE)
        return
    read.global_step, read.adapter_step = steps, of_adapter


def _read_optimizer(read: OldCheckpoint) -> None:
    try:
        read.optimizer = read_torch_file(read.folder / OPTIMIZER)
    except UnreadableError as error:
        missing = not (read.folder / OPTIMIZER).exists()
        found = "it is missing" if missing else str(error)
        read.problem("NF-STATE-013", OPTIMIZER, found, *MOMENTS_EXPECTED)


MOMENTS_EXPECTED = (
    "the state_dict of torch's AdamW over exactly this adapter",
    f"{RESTORE}; or begin with fresh moments, which costs some steps of progress: import with --fresh-optimizer",
)


def _read_scheduler(read: OldCheckpoint) -> None:
    """It holds nothing that Nightfold goes on from, so that trouble with it is told and stops nothing."""
    if not (read.folder / SCHEDULER).exists():
        return
    try:
        found = read_torch_file(read.folder / SCHEDULER)
    except UnreadableError as error:
        read.scheduler_trouble = str(error)
        return
    if isinstance(found, dict):
        read.scheduler = found
    else:
        read.scheduler_trouble = f"it holds a {type(found).__name__}, not a scheduler's state_dict"
