"""What a home has come to at the end of the script, in values that two runs must have in common to the last bit.

Left out is only what a fault may change: times and durations, numbers that were skipped (of batches, of generations),
how often a file was resumed, and the names that are made of a time.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from actors.checkpointer.head import SET_ASIDE, Head, decode
from actors.checkpointer.verification import Damaged, verify
from messages.held_out import HELD_OUT
from runtime import durable
from runtime.disk import Disk
from runtime.manifest import MANIFEST, seal_holds
from tools.crash_matrix.points import NIGHT
from tools.crash_matrix.script import Broken

CONFIG = "adapter_config.json"
TENSORS = (CONFIG, "adapter_model.safetensors", "optimizer.safetensors", "rng.safetensors", HELD_OUT)
TIMES = frozenset(
    {
        "when",
        "seconds",
        "checkpoint_seconds",
        "checkpoint_share",
        "learning_since",
        "batch",
        "path",
        "resumed",
        "number",
    }
)
FOLDERS = ("inbox", "trained", "rejected", "failed")
STATE = {"HEAD", "LOCK", "RESERVE", "generations", "deltas", "batches", "set_aside"}


def outcome(home: Path) -> dict[str, str]:
    """The end of the script, by what it is of.

    Raises:
        Broken: what HEAD names is not sound.
    """
    raw = (home / "state/HEAD").read_bytes()
    head = decode(raw, Head, "state/HEAD")
    if not seal_holds(raw):
        raise Broken("HEAD is not as it was sealed")
    _sound(Disk(home), head)
    told = {f"in force: {name}": _digest(home / head.generation_path / name) for name in TENSORS if name != CONFIG}
    # It says which night's model the adapter stands on.
    told[f"in force: {CONFIG}"] = text_without_times(json.loads((home / head.generation_path / CONFIG).read_bytes()))
    told["in force: trainer_state"] = text_without_times(
        json.loads((home / head.generation_path / "trainer_state.json").read_bytes())
    )
    told["HEAD"] = text_without_times(
        {
            "model_path": head.model_path,
            "base": head.base_fingerprint,
            "ledger": head.ledger,
            "deltas": [(delta.night, delta.due_date) for delta in head.deltas],
            "nights": [(night.night, night.model_path) for night in head.nights],
            "at": (head.in_force.global_step, head.in_force.adapter_id, head.in_force.adapter_step, head.in_force.why),
        }
    )
    told["current_model"] = str((home / "current_model").readlink() == Path(head.generation_path))
    for number, delta in enumerate(head.deltas):
        for file in TENSORS[:2]:
            told[f"delta {number}: {file}"] = _digest(home / delta.path / file)
    for number, model in enumerate(_names(home / "consolidated_models")):
        for file in _names(home / "consolidated_models" / model):
            # A manifest bears the nights' names, which are times; what it says of the files is compared as they are.
            if file != "MANIFEST.json":
                told[f"model {number}: {file}"] = _digest(home / "consolidated_models" / model / file)
    for folder in FOLDERS:
        for name in _names(home / folder):
            path = home / folder / name
            paper = name.endswith((".receipt.json", ".report.json"))
            told[f"{folder}/{name}"] = text_without_times(json.loads(path.read_bytes())) if paper else _digest(path)
    return told


def _sound(disk: Disk, head: Head) -> None:
    folders = [(kept.path, kept.manifest) for kept in head.kept]
    folders += [(delta.path, delta.digest) for delta in head.deltas]
    folders += [(f"snapshots/{day}", "") for day in disk.listdir("snapshots")]
    try:
        for path, manifest in folders:
            verify(disk, path, manifest)
    except Damaged as damage:
        raise Broken(f"it is kept, and damaged: {damage}") from damage
    if not disk.listdir("snapshots"):
        raise Broken("there is no snapshot of the day")


def leftovers(home: Path) -> list[str]:
    """What should not be there when all is done. What a start has set aside is there to be looked at."""
    head = decode((home / "state/HEAD").read_bytes(), Head, "state/HEAD")
    named = {kept.path for kept in head.kept} | {delta.path for delta in head.deltas} | {*head.models_needed()}
    found = [path.relative_to(home).as_posix() for path in home.rglob("*") if durable.is_leftover(path.name)]
    for folder in ("state/generations", "state/deltas", "consolidated_models"):
        found += [f"{folder}/{name}" for name in _names(home / folder) if f"{folder}/{name}" not in named]
    found += [f"state/batches/{name}" for name in _names(home / "state/batches") if name != "LAST"]
    found += [f"state/{name}" for name in _names(home / "state") if name not in STATE]
    if (home / SET_ASIDE).is_dir():
        aside = _names(home / SET_ASIDE)
        found += [f"{SET_ASIDE}/{name}" for name in aside if not (home / SET_ASIDE / name / MANIFEST).is_file()]
    return sorted(set(found))


def difference(wanted: dict[str, str], found: dict[str, str]) -> str:
    """What differs, in words; empty if nothing does."""
    told = []
    for key in sorted(wanted.keys() | found.keys()):
        one, other = wanted.get(key, "not there"), found.get(key, "not there")
        if one != other:
            told.append(f"{key}: {_short(one, other)} was to be {_short(other, one)}")
    return "; ".join(told)


def _short(other: str, one: str) -> str:
    """The part of ``one`` around its first difference from ``other``."""
    at = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
    return one[max(0, at - 30) : at + 50]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def text_without_times(value: Any) -> str:
    """As text, without times: nights are counted in the order in which they are named."""
    text = json.dumps(_without_times(value), sort_keys=True)
    for number, night in enumerate(sorted(set(NIGHT.findall(text)))):
        text = text.replace(night, f"NIGHT-{number}")
    return text


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key not in TIMES}
    if isinstance(value, list | tuple):
        return [_without_times(inner) for inner in value]
    return value
