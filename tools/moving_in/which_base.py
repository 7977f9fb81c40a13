"""Which model the old adapter stands on: it becomes the pristine base of the new home.

After a consolidation of the older kind the adapter began anew on the merged model, so the newest one in
``consolidated_models/`` is the base, and the model named in the old config is not: the ledger of the new home begins
there. What the adapter's own config calls its base is only told where it differs, because a trainer that merged in its
own process goes on writing the old name. ``--base`` overrules all of it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open

from actors.consolidator.adapter_delta import PREFIX, BaseNames
from actors.consolidator.merge_problem import MergeProblem
from actors.consolidator.weights_file import read_model
from actors.trainer.base_model import base_folder, checked_folder, fingerprint
from actors.trainer.engine import EngineError
from runtime.disk import Disk
from tools.moving_in.notes import Notes
from tools.moving_in.old_checkpoint import OldCheckpoint
from tools.moving_in.old_home import CONFIG, OldHome

MODEL_FILES = (".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken")
SAME_DIRECTION = 0.5
"""Cosine above which a merged model is taken to hold an adapter. Rounding to bfloat16 leaves it above 0.7, and two
adapters that have nothing to do with each other are at 0 but for a few hundredths."""


class Base(msgspec.Struct, frozen=True):
    """The base. ``files`` are copied into the new home if the model lies in the old one, which may be deleted some day.

    ``named`` is what ``[trainer] model`` is to say: ``model``, an absolute folder, or a hub id.
    """

    folder: Path
    named: str
    why: str
    fingerprint: str
    files: tuple[Path, ...]
    consolidated: str

    @property
    def copied_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


def choose_base(old: OldHome, wish: str | None, notes: Notes) -> Base | None:
    """The base, or ``None`` and a problem in ``notes``."""
    others = ", ".join(str(path) for path in old.models[-4:-1])
    todo = "restore it, or name the model that the adapter was trained on: --base DIR" + (
        f" (there are: {others})" if others else ""
    )
    if wish is not None:
        return _checked(old, _place(old, wish), "named by --base", "", todo, notes)
    if old.models:
        newest = old.models[-1]
        why = "the newest consolidated model, on which the adapter began anew"
        return _checked(old, str(newest), why, newest.name, todo, notes)
    named = old.config.get("model_path")
    if not isinstance(named, str) or not named:
        where = str(old.folder / CONFIG)
        found = "it has no model_path" if named is None else f"model_path is {named!r}"
        notes.problem("NF-STATE-015", where, found, "the folder or hub id of the base model", todo)
        return None
    return _checked(old, _place(old, named), "model_path of the old config", "", todo, notes)


def _place(old: OldHome, named: str) -> str:
    """A folder as it is reached from here: the old trainer may have been started in its home or elsewhere."""
    path = Path(named).expanduser()
    found = next((place for place in (old.folder / path, Path.cwd() / path) if place.is_dir()), None)
    return str(found.resolve()) if found is not None else str(path)


def _checked(old: OldHome, named: str, why: str, consolidated: str, todo: str, notes: Notes) -> Base | None:
    expected = "a whole transformers model in safetensors"
    try:
        path = Path(named)
        folder = checked_folder(path, named) if path.is_dir() else base_folder(Disk(old.folder), named)
        read_model(folder)  # every header is held against its file
        inside = folder.resolve().is_relative_to(old.folder.resolve())
        return Base(
            folder=folder,
            named="model" if inside else named,
            why=why,
            fingerprint=fingerprint(folder),
            files=_files(folder) if inside else (),
            consolidated=consolidated,
        )
    except (EngineError, MergeProblem) as error:
        notes.problem("NF-STATE-015", named, f"{error} ({why})", expected, todo)
    except OSError as error:
        notes.problem("NF-STATE-015", named, f"it cannot be read: {error} ({why})", expected, todo)
    return None


def _files(folder: Path) -> tuple[Path, ...]:
    """What makes up the model. Pickles and what a trainer left beside it stay."""
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(MODEL_FILES)))


def tell_of_the_choice(old: OldHome, base: Base, current: OldCheckpoint, notes: Notes) -> None:
    """Say what hangs on it, and refuse an adapter that the base holds already."""
    notes.tell(f"base: {base.folder}, {base.why}. It is the pristine base of the new home; its ledger begins empty")
    called = (current.config or {}).get("base_model_name_or_path")
    if (
        isinstance(called, str)
        and called
        and Path(_place(old, called)) != base.folder.resolve()
        and called != base.named
    ):
        notes.tell(
            f"base: the adapter's config calls its base {called}. Trainers that merge in their own process go on "
            "writing the first name; if it really was trained on that, import with --base"
        )
    if base.consolidated:
        _refuse_if_folded_in(old, base, current, notes)


def _refuse_if_folded_in(old: OldHome, base: Base, current: OldCheckpoint, notes: Notes) -> None:
    """A trainer that was killed between its merge and the fresh adapter left one that would count twice."""
    before = old.models[-2] if len(old.models) > 1 else Path(_place(old, str(old.config.get("model_path", ""))))
    if current.weights is None or current.config is None or not before.is_dir():
        return
    try:
        likeness = _likeness(base.folder, before, current)
    except (MergeProblem, SafetensorError, OSError, RuntimeError):
        return  # the model before is not needed any more, so it may well be damaged or gone
    if likeness > SAME_DIRECTION:
        notes.problem(
            "NF-STATE-016",
            str(base.folder),
            f"the adapter in {current.folder} is in it already (what was merged points the same way, cosine "
            f"{likeness:.2f}), and would count twice",
            "an adapter that began anew on it",
            f"if that merge was the last thing the old trainer did: --base {before}; nothing learnt is lost by that",
        )


def _likeness(now: Path, before: Path, current: OldCheckpoint) -> float:
    """Cosine between what the last merge changed in one weight and what the adapter would change in it.

    The weight is the one of which the adapter changes most. 0 where either changes nothing.
    """
    weights, config = current.weights or {}, current.config or {}
    module = max(
        (name.removesuffix(".lora_B.weight") for name in weights if name.endswith(".lora_B.weight")),
        key=lambda name: float(weights[f"{name}.lora_B.weight"].norm()),
        default="",
    )
    if not module or f"{module}.lora_A.weight" not in weights:
        return 0.0
    delta = weights[f"{module}.lora_B.weight"] @ weights[f"{module}.lora_A.weight"]
    if config.get("fan_in_fan_out"):
        delta = delta.T
    changed = _weight(now, module) - _weight(before, module)
    if changed.shape != delta.shape or not float(changed.norm()) or not float(delta.norm()):
        return 0.0
    return float(torch.nn.functional.cosine_similarity(changed.flatten(), delta.flatten(), dim=0))


def _weight(folder: Path, module: str) -> torch.Tensor:
    files = {place.name: file.path for file in read_model(folder) for place in file.tensors}
    places = [place for file in read_model(folder) for place in file.tensors]
    name = BaseNames(places).weight_of(module.removeprefix(PREFIX)).name
    with safe_open(str(files[name]), framework="pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(name).float()
    return tensor
