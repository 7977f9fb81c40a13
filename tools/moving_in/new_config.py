"""The new home's ``nightfold.toml``: what the old trainer had, as far as Nightfold has a word for it.

The optimizer's own figures win over the old config, because the moments were made with them. A value that Nightfold
would refuse is left out and told, never bent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from actors.checkpointer.actor import CheckpointerSettings
from actors.trainer.settings import TrainerSettings
from runtime import OperatorError
from runtime.settings import compose
from tools.commands.init import CONFIG as TEMPLATE
from tools.house import SECTIONS
from tools.moving_in.fit import Fitting
from tools.moving_in.notes import Notes
from tools.moving_in.old_home import CONFIG, OldHome

# Nightfold's key, and what other trainers call it.
SAME_MEANING: Mapping[str, tuple[str, ...]] = {
    "learning_rate": ("learning_rate", "lr"),
    "warmup_steps": ("warmup_steps", "num_warmup_steps"),
    "weight_decay": ("weight_decay",),
    "adam_beta1": ("adam_beta1",),
    "adam_beta2": ("adam_beta2",),
    "grad_clip": ("grad_clip", "max_grad_norm", "gradient_clip", "gradient_clipping"),
    "epochs": ("epochs", "num_train_epochs", "num_epochs"),
    "max_length": ("max_length", "max_seq_length", "max_seq_len", "cutoff_len", "block_size"),
    "seed": ("seed",),
    "gradient_checkpointing": ("gradient_checkpointing",),
}
BATCH = ("batch_size", "per_device_train_batch_size", "train_batch_size", "micro_batch_size")
ACCUMULATION = ("gradient_accumulation_steps", "grad_accumulation_steps", "accumulation_steps")
# The adapter's own config says these, and it is the one that was in force.
OF_THE_ADAPTER = {
    "model_path", "lora_r", "lora_rank", "lora_alpha", "lora_dropout", "lora_target_modules", "target_modules",
    "rank", "r", "alpha", "use_rslora", "rslora", "dropout",
}  # fmt: skip
TORCH_EPS = 1e-8


def wanted_settings(old: OldHome, fitting: Fitting, notes: Notes) -> dict[str, Any]:
    """Keys of ``[trainer]`` and their values, each of them in bounds."""
    found: dict[str, Any] = {}
    used: set[str] = set()
    for key, names in SAME_MEANING.items():
        name = next((name for name in names if old.config.get(name) is not None), None)
        if name is not None:
            used.add(name)
            _take(found, key, old.config[name], f"{CONFIG}: {name}", notes)
    used |= _take_batch(found, old, notes)
    _take_from_adapter(found, json.loads(fitting.config), notes)
    if fitting.moments is not None:
        _take_from_optimizer(found, fitting.moments.figures, notes)
    unknown = sorted(old.config.keys() - used - OF_THE_ADAPTER)
    if unknown:
        notes.leave(
            str(old.folder / CONFIG),
            f"Nightfold has no setting for {', '.join(unknown)}",
            "see README, Config, for what it has; its own defaults hold",
        )
    return found


def _take(found: dict[str, Any], key: str, value: Any, where: str, notes: Notes) -> None:
    if isinstance(value, float) and value.is_integer() and key in ("warmup_steps", "epochs", "max_length", "alpha"):
        value = int(value)
    try:
        judged = compose(f"[trainer]\n{key} = {_toml(value)}\n", SECTIONS, file="nightfold.toml")
    except (OperatorError, ValueError, OverflowError) as error:
        why = f"{value!r} is no value for [trainer] {key}: {error.what if isinstance(error, OperatorError) else error}"
        notes.leave(where, why, "set it in nightfold.toml if you need it")
    else:
        found[key] = getattr(judged.take("trainer", TrainerSettings), key)


def _take_batch(found: dict[str, Any], old: OldHome, notes: Notes) -> set[str]:
    """Examples of one optimizer step; its tokens are bounded by what so many of the longest would have had."""
    size = next((name for name in BATCH if name in old.config), None)
    times = next((name for name in ACCUMULATION if name in old.config), None)
    used = {name for name in (size, times) if name is not None}
    if size is None:
        return used
    parts = [old.config[name] for name in (size, times) if name is not None]
    if not all(type(part) is int and part > 0 for part in parts):
        notes.leave(f"{old.folder / CONFIG}", f"{' and '.join(sorted(used))}: {parts}", "set [trainer] batch_examples")
        return used
    examples = parts[0] * (parts[1] if len(parts) > 1 else 1)
    _take(found, "batch_examples", examples, f"{CONFIG}: {size}", notes)
    if "max_length" in found:
        _take(found, "batch_tokens", examples * found["max_length"], f"{CONFIG}: {size}", notes)
    return used


def _take_from_adapter(found: dict[str, Any], adapter: Mapping[str, Any], notes: Notes) -> None:
    """So that the adapters after the next nights are like this one."""
    names = {"rank": "r", "alpha": "lora_alpha", "rslora": "use_rslora", "dropout": "lora_dropout"}
    for key, name in names.items():
        if adapter.get(name) is not None:
            _take(found, key, adapter[name], f"adapter_config.json: {name}", notes)
    targets = adapter["target_modules"]
    found["targets"] = targets if isinstance(targets, str) else sorted(targets)


def _take_from_optimizer(found: dict[str, Any], figures: Mapping[str, Any], notes: Notes) -> None:
    betas = figures.get("betas")
    said: dict[str, Any] = {"weight_decay": figures.get("weight_decay")}
    if isinstance(betas, tuple | list) and len(betas) == 2:
        said |= {"adam_beta1": betas[0], "adam_beta2": betas[1]}
    for key, value in said.items():
        if isinstance(value, int | float):
            if key in found and found[key] != value:
                notes.tell(f"settings: {key} is {value}, as the optimizer had it; the old config says {found[key]}")
            _take(found, key, value, f"optimizer.pt: {key}", notes)
    rate = figures.get("initial_lr", figures.get("lr"))
    if "learning_rate" not in found and isinstance(rate, int | float):
        _take(found, "learning_rate", rate, "optimizer.pt: learning rate", notes)
    elif isinstance(rate, int | float) and "initial_lr" in figures and rate != found["learning_rate"]:
        notes.tell(
            f"settings: learning_rate is {found['learning_rate']}, as the old config says; the optimizer had {rate}"
        )
    if isinstance(eps := figures.get("eps"), int | float) and eps != TORCH_EPS:
        notes.tell(f"settings: the optimizer's eps was {eps}; Nightfold's is torch's own, {TORCH_EPS}")
    if figures.get("decoupled_weight_decay") is False and figures.get("weight_decay"):
        notes.tell("settings: the old optimizer was Adam, with the decay inside its moments; Nightfold's is AdamW")


def config_text(model: str, wanted: Mapping[str, Any], snapshots: int) -> str:
    """The whole file. As many snapshots are kept as were brought along, if that is more than the default."""
    lines = "".join(f"{key} = {_toml(value)}\n" for key, value in wanted.items())
    text = TEMPLATE.format(model=_toml(model), tuned=f"# taken over from the older trainer:\n{lines}", shown="")
    default = CheckpointerSettings().keep_snapshots
    if snapshots > default:
        text = text.replace(f"# keep_snapshots = {default} ", f"keep_snapshots = {snapshots} ")
    return text


def differences(wanted: Mapping[str, Any], settings: TrainerSettings) -> list[str]:
    """Where an existing ``nightfold.toml``, which is not touched, says something else."""
    return [
        f"settings: your nightfold.toml has {key} = {getattr(settings, key)}, the old trainer had {value}"
        for key, value in wanted.items()
        if getattr(settings, key) != value and key != "targets"
    ]


def _toml(value: Any) -> str:
    """Text, numbers, booleans and lists of text are written in TOML as in JSON."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
