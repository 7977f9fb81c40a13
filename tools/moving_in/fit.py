"""Holds the old adapter and its moments against the model, and writes them as the files of a generation.

The model is built without weights, from its config alone: names, shapes and the order of the adapter's parameters need
no more. Guarantees that the files are made by the very code that the Trainer saves and loads with, and were read back
by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import torch

from actors.trainer.adapter import CONFIG, WEIGHTS, Adapter, all_or_refuse, seed_of
from actors.trainer.base_model import quiet
from actors.trainer.engine import EngineError
from actors.trainer.host_buffers import HostBuffers
from actors.trainer.optimizer_file import OPTIMIZER, RNG, Generators, fresh_adamw, optimizer_tensors, read_optimizer
from actors.trainer.settings import TrainerSettings
from messages import LearningState
from tools.moving_in.moments import KINDS, DoNotFitError, Moments, moments_by_name
from tools.moving_in.old_checkpoint import ADAPTER_CONFIG as OLD_CONFIG
from tools.moving_in.old_checkpoint import MOMENTS_EXPECTED, SCHEDULER, OldCheckpoint
from tools.moving_in.old_checkpoint import OPTIMIZER as OLD_OPTIMIZER
from tools.moving_in.which_base import CONFIG_TROUBLE, Base

ADAPTER_ID = "a0001"


class Fitting(msgspec.Struct, frozen=True):
    """A checkpoint that fits. ``moments`` is ``None`` where fresh ones were asked for."""

    weights: Mapping[str, Any]
    config: bytes
    moments: Moments | None
    global_step: int
    adapter_step: int
    counted_by: str


def fitted(read: OldCheckpoint, base: Base | None, *, fresh_optimizer: bool, never_merged: bool) -> Fitting | None:
    """What can be taken over, or ``None``: then ``read.problems`` says why, each reason by itself."""
    moments = None
    if base is not None and read.config is not None and read.weights is not None:
        shapes = _shapes(read, base)
        if shapes is not None and not fresh_optimizer and read.optimizer is not None:
            try:
                moments = moments_by_name(read.optimizer, shapes)
            except DoNotFitError as error:
                read.problem("NF-STATE-013", OLD_OPTIMIZER, f"the moments do not fit: {error}", *MOMENTS_EXPECTED)
        steps = _steps(read, moments, never_merged)
        if shapes is not None and steps is not None and not read.problems and read.global_step is not None:
            weights = {name: read.weights[name] for name in shapes}
            config = json.dumps(read.config, indent=2, sort_keys=True).encode()
            return Fitting(weights, config, moments, read.global_step, *steps)
    return None


def _shapes(read: OldCheckpoint, base: Base) -> dict[str, torch.Size] | None:
    """Names and shapes in the order of the model, if the old weights have exactly these."""
    assert read.config is not None
    assert read.weights is not None
    expected = "an adapter that was trained on this very model"
    todo = "name the model that it was trained on: --base DIR"
    try:
        adapter = _on_empty_model(base, json.dumps(read.config).encode())
    except EngineError as error:
        read.problem("NF-STATE-012", OLD_CONFIG, f"{error} ({base.folder})", expected, todo)
        return None
    shapes = {name: parameter.shape for name, parameter in adapter.parameters.items()}
    odd = [
        f"{name} {_shown(read.weights, name)}, there {_shown(shapes, name)}"
        for name in sorted(shapes.keys() | read.weights.keys())
        if name not in shapes or name not in read.weights or shapes[name] != read.weights[name].shape
    ]
    if odd:
        more = f", and {len(odd) - 1} more" if len(odd) > 1 else ""
        found = f"its matrices do not fit {base.folder}: {odd[0]}{more}"
        read.problem("NF-STATE-012", "", found, expected, todo)
        return None
    return shapes


def _shown(tensors: Mapping[str, Any], name: str) -> str:
    if name not in tensors:
        return "is missing"
    found = tensors[name]
    return f"is {tuple(found if isinstance(found, torch.Size) else found.shape)}"


def _on_empty_model(base: Base, config: bytes) -> Adapter:
    """The adapter on a model whose tensors have shapes and no content."""
    from transformers import AutoConfig, AutoModelForCausalLM

    quiet()
    try:
        of_model = AutoConfig.from_pretrained(str(base.folder), local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(of_model)
    except CONFIG_TROUBLE as error:
        first = str(error).strip().partition("\n")[0]
        raise EngineError("NF-MODEL-003", f"the model cannot be built: {first}") from error
    model.requires_grad_(False)
    return Adapter(model, TrainerSettings(), base.named, config, 0)


def _steps(read: OldCheckpoint, moments: Moments | None, never_merged: bool) -> tuple[int, str] | None:
    """``adapter_step``, and where it is known from; the first that says it."""
    total = read.global_step
    if total is None:
        return None
    if read.adapter_step is not None:
        return read.adapter_step, "trainer_state.json"
    schedule = (read.scheduler or {}).get("last_epoch")
    for steps, source in ((moments.step if moments else None, OLD_OPTIMIZER), (schedule, SCHEDULER)):
        if isinstance(steps, int) and 0 <= steps <= total:
            return steps, source
    if never_merged:
        return total, "global_step, for nothing was ever consolidated"
    found = f"it has no adapter_step, and neither {OLD_OPTIMIZER} nor {SCHEDULER} tells it"
    todo = "add adapter_step, the optimizer steps since the last consolidation, to a copy of the old home"
    read.problem("NF-STATE-014", "trainer_state.json", found, "how many steps this adapter has taken", todo)
    return None


def state_of(fitting: Fitting, base: Base, settings: TrainerSettings, learning_since: str) -> LearningState:
    """The counters. The old consolidations are in the base, so this adapter is the first of the new home."""
    return LearningState(
        global_step=fitting.global_step,
        adapter_id=ADAPTER_ID,
        adapter_step=fitting.adapter_step,
        base_fingerprint=base.fingerprint,
        seed=settings.seed,
        threads=settings.threads,
        learning_since=learning_since if fitting.adapter_step else None,
    )


def files_of(fitting: Fitting, base: Base, settings: TrainerSettings) -> dict[str, bytes]:
    """The files of a generation but for its counters, made and read back by the Trainer's own code."""
    adapter = _on_empty_model(base, fitting.config)
    adapter.parameters = {name: torch.nn.Parameter(tensor) for name, tensor in fitting.weights.items()}
    optimizer = fresh_adamw(adapter.parameters, settings)
    if fitting.moments is not None:
        for name, moments in fitting.moments.of.items():
            state = optimizer.state[adapter.parameters[name]]
            for kind in ("step", *KINDS):
                state[kind].copy_(moments[kind])
    tensors = {
        WEIGHTS: adapter.tensors(),
        OPTIMIZER: optimizer_tensors(optimizer, adapter.parameters),
        RNG: Generators("cpu", seed_of("dropout", settings.seed, ADAPTER_ID)).tensors(),
    }
    files = {name: bytes(content) for name, content in HostBuffers(lambda: tensors).take().items()}
    all_or_refuse(files[WEIGHTS], {name: each.shape for name, each in adapter.parameters.items()}, WEIGHTS)
    read_optimizer(files[OPTIMIZER], fresh_adamw(adapter.parameters, settings), adapter.parameters)
    return {**files, CONFIG: adapter.config_file()}
