"""For hatchling: a wheel whose hot paths are compiled, where ``HATCH_BUILD_HOOK_ENABLE_CUSTOM`` is set."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledHotPaths(BuildHookInterface[Any]):
    """Adds the extension modules. A checkout that is installed as editable stays interpreted: it is edited."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is put together."""
        self._open = contextlib.ExitStack()
        if version == "editable":
            return
        sys.path.insert(0, self.root)  # hatchling loads this one file alone
        try:
            from tools.compiling.build import compiled
        finally:
            sys.path.remove(self.root)
        modules = self._open.enter_context(compiled(Path(self.root)))
        build_data["force_include"].update({str(lies): str(belongs) for lies, belongs in modules.items()})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact_path: str) -> None:
        """Called when the wheel is written."""
        self._open.close()
