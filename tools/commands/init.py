"""``nightfold init``: makes a home, with a config that explains itself and, if asked, a tiny model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from runtime.errors import EXIT_DONE, EXIT_USAGE, OperatorError

FOLDERS = ("plugins", "inbox", "trained", "rejected", "failed", "state", "snapshots", "consolidated_models", "status")

CONFIG = """\
# Nightfold's config. The daemon reads it at start and never writes it.
# Every key is optional; what is commented out shows the default.

[trainer]
# A folder in this home, an absolute folder, or a hub id.
model = {model}
{tuned}{shown}# epochs = 2                       # how often each file is read
# checkpoint_every_seconds = 120.0 # the longest stretch of learning a crash may cost
# max_length is the model's own context unless set; longer examples are split, never cut silently

[inbox_watcher]
# scan_every_seconds = 2.0
# settle_seconds = 5.0             # where the system cannot tell who still writes

[validator]
# bad_lines = "reject_file"        # or "train_good_lines"
# same_content = "train"           # or "skip"

[checkpointer]
# keep_generations = 5
# keep_snapshots = 7               # daily
# keep_nights = 2
# reserve_bytes = 16777216         # given back on a full disk; 0: none

[consolidator]
# at = 03:00:00                    # local time of the night
# nightly = true

[disk_guard]
# free_bytes_min = 268435456       # never granted away
# free_bytes_recovered = 335544320 # from here on there is room again

[status_reporter]
# trace_on_disk = true

# A plug-in is one class and one section; a file belongs into plugins/.
# [plugins.bell]
# actor = "notifier"               # or "NAME.py:Class", or "package.module:Class"
# urls = ["ntfy://my-topic"]
"""

SHOWN = """\
# rank = 16                        # of the LoRA matrices
# learning_rate = 2e-4             # of the plateau
# warmup_steps = 50                # of each adapter
"""

# A model of some million parameters learns at rates that would ruin a large one.
TUNED_FOR_TINY = """\
learning_rate = 5e-3
warmup_steps = 5
rank = 8
batch_examples = 8
"""


def init(home: Path, model: str | None, tiny: bool) -> int:
    """Make a home.

    Raises:
        OperatorError: NF-CONF-012 there is one already, or neither or both of ``model`` and ``tiny`` were given;
            NF-MODEL-001 ``model`` looks like a folder and is none.
    """
    if (home / "nightfold.toml").exists():
        raise OperatorError(
            "NF-CONF-012",
            f"{home} is a home already",
            hint="choose another folder, or edit its nightfold.toml",
            exit_code=EXIT_USAGE,
        )
    if tiny == (model is not None):
        raise OperatorError(
            "NF-CONF-012",
            "say which model the home begins with: --tiny, or --model with a folder or a hub id",
            hint=f"nightfold init {home} --tiny",
            exit_code=EXIT_USAGE,
        )
    named = "model" if model is None else _checked(model)
    home.mkdir(parents=True, exist_ok=True)
    for folder in FOLDERS:
        (home / folder).mkdir(exist_ok=True)
    if tiny:
        _build_tiny(home)
    tuned, shown = (TUNED_FOR_TINY, "") if tiny else ("", SHOWN)
    from runtime import durable
    from runtime.disk import Disk

    text = CONFIG.format(model=_toml(named), tuned=tuned, shown=shown)
    durable.write_file(Disk(home), "nightfold.toml", text.encode())
    print(f"made {home}")
    print(f"  drop *.jsonl into {home / 'inbox'}, then: nightfold run {home}")
    return EXIT_DONE


def _checked(model: str) -> str:
    """A folder as an absolute path, a hub id as it is."""
    path = Path(model).expanduser()
    if (path / "config.json").is_file():
        return str(path.resolve())
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise OperatorError(
            "NF-MODEL-001",
            f"{model} is not a model folder: it has no config.json",
            hint="give the folder that save_pretrained wrote, or a hub id like org/name",
            exit_code=EXIT_USAGE,
        )
    return model


def _build_tiny(home: Path) -> None:
    """Staged, so that an interrupted init never leaves half a model under its name."""
    from tools.tiny_model import build_tiny_model

    staged = home / ".model.part"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    build_tiny_model(staged)
    staged.rename(home / "model")
    handle = os.open(home, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
