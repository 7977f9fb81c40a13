"""The merge in its child process: it says what came of it, leaves nothing behind and never outlives its night."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch

from actors.consolidator.merge_child import MergeJob, MergeOutcome
from actors.consolidator.merger import MergeDone, MergeRefused, MergeRequest
from actors.consolidator.model_manifest import ModelManifest, verify_model
from actors.consolidator.process_merger import CHILD, PROJECT, ProcessMerger
from messages.codes import CODES
from runtime.disk import Disk
from tests.actors.consolidator.small_models import make_adapter, make_llama

pytestmark = [
    pytest.mark.real,
    # The child is nice: where every core has a busy test, it gets a tenth of one.
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers.*"),
]

STAND_IN = """
import json, os, subprocess, sys, time
from pathlib import Path
job = json.loads(sys.stdin.readline())
out = Path(job["out"])
(out / "deep").mkdir(parents=True)
(out / "deep" / "half").write_text("half a tensor")
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
(out.parent / "pids.part").write_text(f"{os.getpid()} {grandchild.pid}")
(out.parent / "pids.part").rename(out.parent / "pids")
"""


def merger_of(home: Path, script: str, timeout_seconds: float = 60) -> ProcessMerger:
    return ProcessMerger(Disk(home), home / "base", timeout_seconds, command=(sys.executable, "-c", script))


REQUEST = MergeRequest(deltas=(), out="out", last_base="")


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def soon(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true within ten seconds")


async def both_end(home: Path) -> None:
    child, grandchild = map(int, (home / "pids").read_text().split())
    assert not lives(child), "merge() returned while its process still ran"
    await soon(lambda: not lives(grandchild))


async def test_merges_and_verifies_in_a_child(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", torch.bfloat16)
    for night in (1, 2):
        make_adapter(base, tmp_path / f"delta{night}", seed=night, size=0.1)
    merger = ProcessMerger(Disk(tmp_path), lambda: base, timeout_seconds=100)
    first = await merger.merge(MergeRequest(("delta1",), "merged1", ""))
    second = await merger.merge(MergeRequest(("delta1", "delta2"), "merged2", "merged1"))
    size = (base / "model.safetensors").stat().st_size
    for done in (first, second):
        assert isinstance(done, MergeDone), done
        assert 0 < done.max_logit_difference < 0.1
        assert done.seconds > 0
        assert done.size_bytes == size <= merger.forecast_bytes()
    assert "torch" not in _modules_of_the_daemon()


def _modules_of_the_daemon() -> list[str]:
    command = [sys.executable, "-c", "import actors.consolidator.process_merger, sys; print(*sys.modules)"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT).stdout.split()


async def test_b9_merged_again_it_is_the_same_model_whatever_the_deltas_are_called(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", torch.bfloat16, shard="300KB")
    (base / "MANIFEST.json").write_text("of a model that was itself merged")
    for night in (1, 2):
        make_adapter(base, tmp_path / f"delta{night}", seed=night, size=0.1)
    shutil.copytree(tmp_path / "delta2", tmp_path / "generation")
    disk = Disk(tmp_path)
    merger = ProcessMerger(disk, base, timeout_seconds=100)
    nights, deltas = ("n1", "n2"), ("delta1", "generation")
    first = await merger.merge(MergeRequest(deltas, "first", "", nights, "blake3:base", proof="tensors"))
    again = await merger.merge(MergeRequest(("delta1", "delta2"), "again", "", nights, "blake3:base", proof="none"))
    assert isinstance(first, MergeDone)
    assert isinstance(again, MergeDone)
    assert first.digest == again.digest != ""
    verify_model(disk, "first", first.digest)
    content = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == content
    manifest = msgspec.json.decode(content["MANIFEST.json"], type=ModelManifest)
    assert [(delta.night, delta.digest[:7]) for delta in manifest.deltas] == [("n1", "blake3:"), ("n2", "blake3:")]
    assert (manifest.night, manifest.base_fingerprint, "torch" in manifest.versions) == ("n2", "blake3:base", True)
    assert len(content) > 3, "more than one weight file, so that their blocks are told apart"
    other = await merger.merge(MergeRequest(("delta1",), "other", "", ("n1",), proof="none"))
    assert isinstance(other, MergeDone)
    assert other.digest != first.digest


async def test_a_refusal_leaves_nothing_behind(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 1e45}))
    refused = await ProcessMerger(Disk(tmp_path), base, 100).merge(MergeRequest(("adapter",), "out", ""))
    # Found only while it is written, so there was something to remove.
    assert isinstance(refused, MergeRefused)
    assert refused.code == "NF-MERGE-023"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


async def test_n7_time_out_kills_the_child_with_its_children(tmp_path: Path) -> None:
    refused = await merger_of(tmp_path, STAND_IN + "time.sleep(300)", timeout_seconds=1.5).merge(REQUEST)
    assert isinstance(refused, MergeRefused)
    assert refused.code == "NF-MERGE-001"
    assert "1.5 seconds" in refused.why
    await both_end(tmp_path)
    assert not (tmp_path / "out").exists()


async def test_n7_children_that_outlive_the_child_are_killed_at_the_time_out(tmp_path: Path) -> None:
    refused = await merger_of(tmp_path, STAND_IN, timeout_seconds=1.5).merge(REQUEST)
    assert isinstance(refused, MergeRefused)
    assert refused.code == "NF-MERGE-001"
    await both_end(tmp_path)


async def test_n6_cancelling_kills_the_child_and_removes_what_it_wrote(tmp_path: Path) -> None:
    night = asyncio.create_task(merger_of(tmp_path, STAND_IN + "time.sleep(300)").merge(REQUEST))
    await soon((tmp_path / "pids").exists)
    assert (tmp_path / "out/deep/half").exists()
    night.cancel()
    with pytest.raises(asyncio.CancelledError):
        await night
    await both_end(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("os.kill(os.getpid(), 9)", "memory runs out"),
        ("raise KeyError('the reason')", "the reason"),
        ("sys.exit(3)", "status 3"),
        ("print('not json'); sys.exit(0)", "without an outcome"),
        ("print('{}')", "no outcome"),
    ],
)
async def test_a_child_that_dies_is_a_refusal(tmp_path: Path, script: str, word: str) -> None:
    script = "import os, sys; from pathlib import Path; Path(sys.argv[1]).mkdir(); sys.stdin.readline();" + script
    merger = ProcessMerger(
        Disk(tmp_path), tmp_path / "base", 60, command=(sys.executable, "-c", script, str(tmp_path / "out"))
    )
    refused = await merger.merge(REQUEST)
    assert isinstance(refused, MergeRefused)
    assert refused.code == "NF-MERGE-002"
    assert word in refused.why
    assert not (tmp_path / "out").exists()


async def test_a_child_that_reads_nothing_is_a_refusal(tmp_path: Path) -> None:
    refused = await merger_of(tmp_path, "import os; os._exit(1)").merge(
        MergeRequest(tuple(f"delta{number}" for number in range(20_000)), "out", "")
    )
    assert isinstance(refused, MergeRefused)
    assert refused.code == "NF-MERGE-002"


async def test_much_talk_does_not_stop_the_child(tmp_path: Path) -> None:
    done = msgspec.json.encode(MergeOutcome(done=MergeDone(1, 2, 3.0, 0.0))).decode()
    script = f"import sys; sys.stdin.readline(); sys.stderr.write('x' * 500_000); print({done!r})"
    assert isinstance(await merger_of(tmp_path, script).merge(REQUEST), MergeDone)


def test_a_base_that_cannot_be_merged_still_has_a_forecast(tmp_path: Path) -> None:
    assert merger_of(tmp_path, "").forecast_bytes() > 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_n2_the_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    """The daemon is killed with -9 in the middle of a night: the merge may not go on writing on its own."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)  # The child stands here, having made its promises, for nobody ever writes.
    script = (
        "from actors.consolidator import merge_child\n"
        f"merge_child._do = lambda job: open({fifo!r}).read()\n"
        "merge_child.main()\n"
    )
    job = MergeJob(base="", adapters=(), out=str(tmp_path / "out"), last_base="", parent=0)
    daemon = (
        "import json, os, subprocess, sys, time\n"
        f"job = json.loads({msgspec.json.encode(job).decode()!r}) | {{'parent': os.getpid()}}\n"
        f"command = [sys.executable, '-c', {script!r}]\n"
        "child = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)\n"
        "child.stdin.write(json.dumps(job).encode() + b'\\n')\n"
        "child.stdin.flush()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(300)\n"
    )
    deadline = time.monotonic() + 30
    with subprocess.Popen([sys.executable, "-c", daemon], stdout=subprocess.PIPE, cwd=PROJECT) as parent:
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            # It has made its promises once its nice value is raised, which comes right after.
            while os.getpriority(os.PRIO_PROCESS, child) < 10:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert lives(child)
        finally:
            parent.send_signal(signal.SIGKILL)
    try:
        while lives(child):
            assert time.monotonic() < deadline, "the child outlived its parent"
            time.sleep(0.01)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_what_libraries_print_does_not_mix_with_the_outcome(tmp_path: Path) -> None:
    job = MergeJob(base="", adapters=(), out=str(tmp_path), last_base="", parent=os.getpid())
    script = (
        "import os\n"
        "from actors.consolidator import merge_child\n"
        "def noisy(job):\n"
        "    print('noise', flush=True)\n"
        "    os.system('echo more noise')\n"
        "    return merge_child.MergeOutcome()\n"
        "merge_child._do = noisy\n"
        "merge_child.main()\n"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, input=msgspec.json.encode(job), capture_output=True, check=True, cwd=PROJECT)
    assert ended.stdout == b"{}\n"
    assert ended.stderr.splitlines() == [b"noise", b"more noise"]


def test_the_child_prints_one_line_for_done_and_for_refused(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", torch.bfloat16)
    adapter = make_adapter(base, tmp_path / "adapter")
    job = MergeJob(str(base), (str(adapter),), str(tmp_path / "out"), str(base), os.getpid())
    ended = subprocess.run(CHILD, input=msgspec.json.encode(job), capture_output=True, check=True, cwd=PROJECT)
    assert ended.stdout.count(b"\n") == 1
    assert json.loads(ended.stdout)["done"]["tensors"] == 30
    job = msgspec.structs.replace(job, base=str(tmp_path))
    ended = subprocess.run(CHILD, input=msgspec.json.encode(job), capture_output=True, check=True, cwd=PROJECT)
    assert json.loads(ended.stdout)["refused"]["code"] == "NF-MERGE-010"


def test_every_code_is_explained() -> None:
    used = set()
    for path in (PROJECT / "actors/consolidator").glob("*.py"):
        used |= {word for word in path.read_text().split('"') if word.startswith("NF-MERGE-") and len(word) == 12}
    assert len(used) >= 15
    assert used <= set(CODES)
