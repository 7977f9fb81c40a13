"""Which model the old adapter stands on: it becomes the pristine base of the new home.

After a consolidation of the older kind the adapter began anew on the merged model, so the newest one in
``consolidated_models/`` is the base, and the model named in the old config is not: the ledger of the new home begins
there. What the adapter's own config calls its base is only told where it differs, because a trainer that merged in its
own process goes on writing the old name. ``--base`` overrules all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open

from actors.consolidator.adapter_delta import PREFIX, BaseNames
from actors.consolidator.merge_problem import MergeProblem
from actors.consolidator.weights_file import read_model
from actors.trainer.base_model import base_folder, checked_folder, fingerprint, load_tokenizer
from actors.trainer.engine import EngineError
from runtime.disk import Disk
from tools.moving_in.notes import Notes
from tools.moving_in.old_checkpoint import OldCheckpoint
from tools.moving_in.old_home import CONFIG, OldHome

# A model's config may hold anything, and each model's code stumbles over nonsense in its own way.
CONFIG_TROUBLE = (
    OSError, ValueError, LookupError, TypeError, ImportError, AttributeError, ArithmeticError, RuntimeError,
    StrictDataclassError,
)  # fmt: skip
MODEL_FILES = (".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken")
MORE_TEMPLATES = "additional_chat_templates"
TOKENIZER = "tokenizer.json"
OF_TOKENIZERS = ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges")
SAME_CHANGE = 0.95
"""Cosine above which what a merge changed is taken to be what this adapter would have changed, both rounded alike.
Measured on the tiny model, merged by PEFT: the merged adapter itself 1.000, in float32 and bfloat16 and down to an
update of 0.02 % of the weight; a later adapter up to 0.81 from the same seed and data, and below 0.1
where either differs."""


class Base(msgspec.Struct, frozen=True):
    """The base. ``named`` is what ``[trainer] model`` is to say: ``model``, an absolute folder, or a hub id.

    ``files``, places by name, are copied into the new home if the model lies in the old one, which may be deleted some
    day. Among them may be the tokenizer of another folder, if the model has none: then ``completed`` is true.
    """

    folder: Path
    named: str
    why: str
    fingerprint: str
    files: Mapping[str, Path]
    completed: bool
    consolidated: str

    @property
    def copied_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files.values())


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
        files = _files(folder) if inside else {}
        lent = _tokenizer(old, folder, named, notes) if inside else _tokenizer_of(folder, named)
        return Base(
            folder=folder,
            named="model" if inside else named,
            why=why,
            fingerprint=fingerprint(folder),
            files={**lent, **files},
            completed=bool(lent),
            consolidated=consolidated,
        )
    except (EngineError, MergeProblem) as error:
        notes.problem("NF-STATE-015", named, f"{_first_line(error)} ({why})", expected, todo)
    except (OSError, ValueError) as error:
        notes.problem("NF-STATE-015", named, f"it cannot be read: {_first_line(error)} ({why})", expected, todo)
    return None


def _files(folder: Path) -> dict[str, Path]:
    """What makes up the model. Pickles and what a trainer left beside it stay."""
    found = [*folder.iterdir(), *folder.glob(f"{MORE_TEMPLATES}/*.jinja")]
    made_up = sorted(path for path in found if path.is_file() and path.name.endswith(MODEL_FILES))
    return {path.relative_to(folder).as_posix(): path for path in made_up}


def _tokenizer(old: OldHome, folder: Path, named: str, notes: Notes) -> dict[str, Path]:
    """The files of another folder's tokenizer, if a merged model was saved without one; ``{}`` if it has its own."""
    other = Path(_place(old, str(old.config.get("model_path") or folder)))
    if (folder / TOKENIZER).exists() or not (other / TOKENIZER).is_file():
        return _tokenizer_of(folder, named)
    _tokenizer_of(other, str(other))
    notes.tell(f"base: it was saved without its tokenizer; the one of {other} is put beside it")
    return {
        name: path
        for name, path in _files(other).items()
        if path.name.startswith(OF_TOKENIZERS) or path.name.endswith((".jinja", ".model"))
    }


def _tokenizer_of(folder: Path, named: str) -> dict[str, Path]:
    """Nothing to lend: it can be loaded.

    Raises:
        EngineError: it cannot; without one nothing can be trained.
    """
    try:
        load_tokenizer(folder, named)
    except Exception as error:  # a damaged tokenizer.json is a bare Exception of the tokenizers library, nothing finer
        if type(error) is not Exception and not isinstance(error, CONFIG_TROUBLE):
            raise
        raise EngineError("NF-MODEL-005", f"the tokenizer of {named} cannot be loaded: {error}") from error
    return {}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


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
    before = old.models[-2] if len(old.models) > 1 else Path(_place(old, str(old.config.get("model_path") or "/")))
    if current.weights is None or current.config is None or not before.is_dir():
        return
    try:
        likeness = _likeness(base.folder, before, current)
    except (MergeProblem, SafetensorError, OSError, RuntimeError, ValueError):
        return  # the model before is not needed any more, so it may well be damaged or gone
    if likeness > SAME_CHANGE:
        notes.problem(
            "NF-STATE-016",
            str(base.folder),
            f"the adapter in {current.folder} is in it already and would count twice (the merge changed what it "
            f"changes, cosine {likeness:.3f})",
            "an adapter that began anew on it",
            f"take the model before the merge, --base {before}, which loses nothing learnt; or, if the adapter did "
            f"begin anew, say so: --base {base.folder}",
        )


def _likeness(now: Path, before: Path, current: OldCheckpoint) -> float:
    """Cosine between what the last merge changed in one weight and what merging the adapter would have changed in it.

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
    rank = config["r"] ** 0.5 if config["use_rslora"] else config["r"]
    delta = weights[f"{module}.lora_B.weight"] @ weights[f"{module}.lora_A.weight"] * (config["lora_alpha"] / rank)
    if config.get("fan_in_fan_out"):
        delta = delta.T
    new, old = _weight(now, module), _weight(before, module)
    if new.shape != delta.shape or old.shape != delta.shape:
        return 0.0
    changed = new.float() - old.float()
    # Rounded like the merged model: of a small update in bfloat16 little is left, and it must be the same little.
    would_change = (old.float() + delta).to(new.dtype).float() - old.float()
    if not float(changed.norm()) or not float(would_change.norm()):
        return 0.0
    return float(torch.nn.functional.cosine_similarity(changed.flatten(), would_change.flatten(), dim=0))


def _weight(folder: Path, module: str) -> torch.Tensor:
    files = {place.name: file.path for file in read_model(folder) for place in file.tensors}
    places = [place for file in read_model(folder) for place in file.tensors]
    name = BaseNames(places).weight_of(module.removeprefix(PREFIX)).name
    with safe_open(str(files[name]), framework="pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(name)
    return tensor
