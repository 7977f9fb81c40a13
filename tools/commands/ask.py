"""``nightfold generate``: ask the model in force.

Reads only what HEAD names, so the answer is always that of one committed state, and the daemon may go on
training meanwhile. The model itself is loaded by ``tools.commands.generate``, the only part here that needs
torch.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from runtime.errors import EXIT_CONFIG, OperatorError
from tools.commands.home import CONFIG, require_home

HEAD = "state/HEAD"


def generate_command(home: Path, prompt: str, base: bool, max_new_tokens: int) -> int:
    """Print the answer to ``prompt``; with ``base``, that of the pristine base instead."""
    model, adapter = pristine_base(home), None
    if not base:
        model, adapter = model_in_force(home)
        if adapter is None:
            print("nothing was learnt yet: this is the pristine base", file=sys.stderr)
    from tools.commands.generate import generate

    print(generate(model, adapter, prompt, max_new_tokens))
    return 0


def model_in_force(home: Path) -> tuple[str, Path | None]:
    """The model (a folder or a hub id) and the adapter's folder that HEAD names; no adapter before the first commit.

    Raises:
        OperatorError: NF-CONF-009, HEAD cannot be read or names what is not there.
    """
    model = pristine_base(home)
    if not (home / HEAD).exists():
        return model, None
    head = _head(home)
    if head.get("model_path"):
        model = str(_there(home, head["model_path"]))
    if not head.get("generation_path"):
        return model, None
    return model, _there(home, f"{head['generation_path']}/adapter_config.json").parent


def pristine_base(home: Path) -> str:
    """``[trainer] model``: a folder beside the config, an absolute folder, or else a hub id, as it is written."""
    require_home(home)
    try:
        config = tomllib.loads((home / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OperatorError(
            "NF-CONF-001", f"{home / CONFIG}: {error}", hint="mend the file", exit_code=EXIT_CONFIG
        ) from error
    trainer = config.get("trainer", {})
    model = trainer.get("model", "model") if isinstance(trainer, dict) else "model"
    folder = home / str(model)
    return str(folder if folder.is_dir() else model)


def _head(home: Path) -> dict[str, Any]:
    try:
        head = json.loads((home / HEAD).read_bytes())
    except (OSError, ValueError) as error:
        raise _lost(f"{HEAD} cannot be read: {error}", home) from error
    if not isinstance(head, dict):
        raise _lost(f"{HEAD} does not hold an object", home)
    return head


def _there(home: Path, path: object) -> Path:
    found = home / str(path)
    if not found.exists():
        raise _lost(f"{HEAD} names {path}, which is not there", home)
    return found


def _lost(what: str, home: Path) -> OperatorError:
    return OperatorError("NF-CONF-009", what, hint=f"nightfold doctor {home}", exit_code=EXIT_CONFIG)
