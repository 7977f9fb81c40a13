"""``nightfold merge``: the result is there whole and verified, or there is nothing and a sentence says why."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
import torch

from actors.consolidator import merge as merge_module
from runtime.errors import EXIT_DISK, EXIT_FAILED, OperatorError
from tests.actors.consolidator.small_models import load, make_adapter, make_llama
from tools.commands.merge import merge_command

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::FutureWarning:transformers.*")]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_llama(tmp_path / "base", torch.bfloat16, shard="200KB")


def refused(base: Path, adapters: list[Path], out: Path) -> OperatorError:
    before = sorted(out.parent.iterdir())
    with pytest.raises(OperatorError) as caught:
        merge_command(base, adapters, out)
    assert caught.value.hint
    assert sorted(out.parent.iterdir()) == before, "a refused merge leaves nothing behind"
    return caught.value


def test_the_merged_model_loads_with_plain_transformers(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapters = [make_adapter(base, tmp_path / f"a{n}", seed=n) for n in range(2)]
    assert merge_command(base, adapters, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "merged 21 of 30 tensors" in said
    assert "verified" in said
    assert load(tmp_path / "out").dtype == torch.bfloat16
    assert not (tmp_path / ".out.part").exists()


def test_a_relative_path_and_a_killed_merge_before_it(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    (tmp_path / ".out.part/out").mkdir(parents=True)
    (tmp_path / ".out.part/out/model.safetensors").write_text("half")
    monkeypatch.chdir(tmp_path)
    assert merge_command(Path("base"), [Path("adapter")], Path("out")) == 0
    assert adapter.exists()
    assert not (tmp_path / ".out.part").exists()


def test_mistakes_are_told_with_a_hint(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    out = tmp_path / "out"
    assert refused(tmp_path / "none", [adapter], out).code == "NF-MERGE-015"
    assert refused(base, [tmp_path / "none"], out).code == "NF-MERGE-015"
    assert refused(base, [adapter], base).code == "NF-MERGE-013"
    assert refused(adapter, [adapter], out).code == "NF-MERGE-010"
    wrong = refused(base, [base], out)
    assert (wrong.code, wrong.exit_code) == ("NF-MERGE-022", EXIT_FAILED)


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")

    def full(handle: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merge_module, "_reserve", full)
    error = refused(base, [adapter], tmp_path / "out")
    assert (error.code, error.exit_code) == ("NF-MERGE-003", EXIT_DISK)


def test_two_merges_do_not_write_in_one_place(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    part = tmp_path / ".out.part"
    part.mkdir()
    handle = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert refused(base, [adapter], tmp_path / "out").code == "NF-MERGE-014"
    finally:
        os.close(handle)


def test_a_result_that_fails_verification_never_appears(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    write = merge_module._write_fully
    monkeypatch.setattr(
        merge_module, "_write_fully", lambda handle, view, start: write(handle, view, start) if start < 9999 else None
    )
    assert refused(base, [adapter], tmp_path / "out").code == "NF-MERGE-030"
