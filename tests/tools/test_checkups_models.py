"""``doctor`` and merged models: what it sees at a glance, what only in depth, and what it says of an older one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import durable
from runtime.disk import Disk
from tests.tools.simulated_home import lived_in_home
from tools.checkups.finding import Finding
from tools.checkups.models import merged_models


def looked(home: Path, *, deep: bool) -> list[tuple[str, str]]:
    return [(finding.level, finding.code) for finding in found(home, deep=deep)]


def found(home: Path, *, deep: bool) -> list[Finding]:
    return list(merged_models(home, Disk(home) if deep else None))


def model_of(home: Path) -> Path:
    return Path(home / json.loads((home / "state/HEAD").read_bytes())["model_path"])


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_model_is_told_with_how_it_was_compared(tmp_path: Path, deep: bool) -> None:
    (finding,) = found(lived_in_home(tmp_path), deep=deep)
    assert finding.level == "ok"
    assert ("every byte compared" in finding.words) is deep


def test_a_turned_bit_is_seen_only_in_depth(tmp_path: Path) -> None:
    home = lived_in_home(tmp_path)
    flip(model_of(home) / "weights")
    assert looked(home, deep=False) == [("ok", "")]
    assert looked(home, deep=True) == [("error", "NF-STATE-006")]


AT_A_GLANCE: dict[str, Callable[[Path], object]] = {
    "the manifest is damaged": lambda model: flip(model / "MANIFEST.json"),
    "the manifest is gone": lambda model: (model / "MANIFEST.json").unlink(),
    "a file is short": lambda model: (model / "weights").write_bytes(b""),
    "a file is gone": lambda model: (model / "config.json").unlink(),
    "a file too many": lambda model: (model / "more.json").write_bytes(b""),
}


@pytest.mark.parametrize("what", AT_A_GLANCE)
def test_anything_larger_is_seen_at_a_glance(tmp_path: Path, what: str) -> None:
    home = lived_in_home(tmp_path)
    AT_A_GLANCE[what](model_of(home))
    assert looked(home, deep=False) == [("error", "NF-STATE-006")]


def test_b8_a_model_of_an_earlier_version_is_told_to_have_no_manifest(tmp_path: Path) -> None:
    home = lived_in_home(tmp_path)
    (model_of(home) / "MANIFEST.json").unlink()
    head = json.loads((home / "state/HEAD").read_bytes())
    for kept in head["kept"]:
        kept["model_digest"] = ""
    raw = json.dumps({**head, "seal": ""}, indent=2).encode()
    seal = f'"seal": "{durable.digest_of_bytes(raw)}"'.encode()
    (home / "state/HEAD").write_bytes(raw.replace(b'"seal": ""', seal))
    findings = found(home, deep=True)
    assert [finding.level for finding in findings] == ["ok", "ok"]
    assert "no manifest" in findings[0].words
