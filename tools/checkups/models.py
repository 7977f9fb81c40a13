"""The merged models that kept generations stand on: each is what HEAD says it must be.

Every file's name and size, and the manifest's own digest; with ``deep`` every byte. A living daemon goes on meanwhile,
so what looks damaged is held against HEAD once more: retention may just have let go of it.
"""

from __future__ import annotations

from pathlib import Path

from actors.checkpointer.head import Head
from actors.consolidator.model_manifest import has_manifest, verify_model
from messages import MergedModel
from runtime import OperatorError
from runtime.disk import Disk
from runtime.manifest import FolderDamaged
from tools.checkups.finding import Finding, Findings, error, ok, warning
from tools.commands.history import read_head


def merged_models(home: Path, deep: Disk | None = None) -> Findings:
    """All of them; every byte is read through ``deep``, if that is given."""
    try:
        head = read_head(home)
    except OperatorError:
        return  # told by the checks of what was learnt
    if head is None:
        return
    disk = deep or Disk(home)
    models = head.models()
    sound = 0
    for model in models:
        why = _damage(disk, model, deep=deep is not None)
        if not why:
            sound += 1
        elif _still_needed(home, model):
            yield _damaged(model, why)
    old = [model.path for model in models if not model.digest and not has_manifest(disk, model.path)]
    if old:
        note = "no manifest: made by an earlier version, and taken as it is; the next night makes one that has"
        yield ok("models", f"{', '.join(old)}: {note}")
    compared = (
        "every byte compared" if deep is not None else "every file is there with its size; --deep compares every byte"
    )
    if sound or not models:
        yield ok("models", f"{sound} merged model(s) sound, {compared}" if models else _no_models(head))


def _no_models(head: Head) -> str:
    return "0 merged model(s) needed" if head.nights else "on the pristine base"


def _damage(disk: Disk, model: MergedModel, *, deep: bool) -> str:
    try:
        verify_model(disk, model.path, model.digest, deep=deep)
    except FolderDamaged as damage:
        return str(damage)
    if disk.stat(f"{model.path}/config.json") is None:  # all that can be said of one without a manifest
        return f"{model.path} is not whole"
    return ""


def _still_needed(home: Path, model: MergedModel) -> bool:
    now = read_head(home)
    return now is not None and model.path in now.models_needed()


def _damaged(model: MergedModel, why: str) -> Finding:
    place = "the adapter in force" if model.in_force else "a kept generation"
    words = f"the merged model {model.path}, which {place} stands on, is damaged: {why}"
    todo = "the daemon merges it anew from the base and the deltas, when it starts or when it comes upon it"
    return (error if model.in_force else warning)("models", words, todo, "NF-STATE-006")
