"""The VllmReloader against a server that answers as vLLM does, over the loopback and with real files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.vllm_reloader.actor import VllmReloaderSettings
from messages import (
    BatchTrained,
    GenerationCommitted,
    LearningState,
    Message,
    NightFinished,
    NightStarted,
    PluginNoted,
    Receipt,
    SpaceGranted,
    SpaceNeeded,
    SpaceRefused,
    StateInForce,
    StateWanted,
)
from runtime import Actor, ActorSystem, Branch, Child, OperatorError, durable, on, trace_files
from runtime.clock import SystemClock
from runtime.disk import Disk
from runtime.plugin_manners import WorkersApart
from runtime.plugins import plugin_branch
from runtime.settings import check_plugin
from runtime.worker import ThreadWorkers
from tests.actors.vllm_reloader.fake_vllm import FakeVllm
from tests.runtime import scripted
from tests.runtime.scripted import running

NIGHT = "20261123T030000"
RECEIPT = Receipt("", "", "", 10, 2, 20, 1, 20, "a0001", 1, 1, 0, 2.0, 1.0, 1.0)


async def eventually(true: Callable[[], bool]) -> None:
    """Real files, sockets and threads on a machine that has other things to do."""
    await scripted.eventually(true, within=20.0)


class House(Actor):
    """The Checkpointer and the DiskGuard, as far as the plug-in asks them, and an ear."""

    def __init__(self, said: list[PluginNoted]) -> None:
        self.said = said
        self.path, self.generation, self.room = "", 0, True

    @on
    async def noted(self, note: PluginNoted) -> None:
        self.said.append(note)

    @on
    async def state(self, _: StateWanted) -> StateInForce:
        state = LearningState(schema=1, global_step=self.generation, adapter_id="a0001", adapter_step=self.generation)
        return StateInForce(self.generation, self.path, state, (), "")

    @on
    async def space(self, asked: SpaceNeeded) -> SpaceGranted | SpaceRefused:
        assert asked.need_bytes > 0
        return SpaceGranted(10**9) if self.room else SpaceRefused(1, 2, 1)


class Learning:
    """A home in which generations are committed, and the plug-in that serves them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.said: list[PluginNoted] = []
        self.house = House(self.said)
        self.system: ActorSystem

    @contextlib.asynccontextmanager
    async def served_at(self, url: str, **settings: Any) -> AsyncIterator[None]:
        table = {"actor": "vllm_reloader", "url": url, "timeout_seconds": 30.0, "look_every_seconds": 1.0, **settings}
        tree = Branch("root", (Child("house", House, make=lambda: self.house), plugin_branch({"vllm": table})))
        async with running(
            tree, disk=Disk(self.home), clock=SystemClock(), workers=WorkersApart(ThreadWorkers())
        ) as self.system:
            await eventually(lambda: self.system.cells["plugins.vllm"].state == "running")
            yield

    def write(self, number: int, *, night: str = "", rank: int = 8) -> str:
        path = f"state/generations/{number:06d}"
        folder = self.home / path
        folder.mkdir(parents=True)
        files = {
            "adapter_config.json": json.dumps({"peft_type": "LORA", "r": rank}).encode(),
            "adapter_model.safetensors": f"weights of {number}".encode(),
            "optimizer.safetensors": b"not for a server",
        }
        for name, data in files.items():
            (folder / name).write_bytes(data)
        entries = {name: {"size": len(d), "digest": durable.digest_of_bytes(d)} for name, d in files.items()}
        ledger = [night] if night else []
        manifest = {"schema": 1, "generation": number, "ledger": ledger, "files": entries, "when": str(number)}
        (folder / "MANIFEST.json").write_bytes(json.dumps(manifest).encode())
        return path

    async def commits(self, number: int, *, night: str = "", rank: int = 8, adapter_step: int = 1) -> str:
        path = self.write(number, night=night, rank=rank)
        await self.say(
            GenerationCommitted("t", number, path, "interval", number, "a0001", adapter_step, size_bytes=1, seconds=0.1)
        )
        return path

    async def say(self, message: Message) -> None:
        await self.system.send(message)

    @property
    def codes(self) -> list[str]:
        return [note.code for note in self.said if note.code]

    def spooled(self) -> list[str]:
        folder = self.home / "plugins/vllm/adapters"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def learning(tmp_path: Path) -> Learning:
    return Learning(tmp_path)


@pytest.fixture
def vllm() -> Iterator[FakeVllm]:
    server = FakeVllm("Qwen/Qwen3-0.6B")
    yield server
    server.shut()


async def test_each_commit_is_loaded_under_a_new_name_proven_and_the_older_unloaded(
    learning: Learning, vllm: FakeVllm
) -> None:
    async with learning.served_at(vllm.url):
        await learning.commits(41)
        await eventually(lambda: list(vllm.loaded) == ["nightfold-41"])
        await learning.commits(42)
        await eventually(lambda: list(vllm.loaded) == ["nightfold-42"])
        await eventually(lambda: len(learning.said) == 2)
        served = Path(vllm.loaded["nightfold-42"])
        assert served.parent == learning.home / "plugins/vllm/adapters"
        assert (served / "adapter_model.safetensors").read_bytes() == b"weights of 42"
        assert not (served / "optimizer.safetensors").exists()
        await eventually(lambda: learning.spooled() == [served.name])
    asked = [path.rpartition("/")[2] for path, name in vllm.calls if name.endswith(("41", "42"))]
    order = ["load_lora_adapter", "completions", "load_lora_adapter", "completions", "unload_lora_adapter"]
    assert asked == order, "the old one goes when the new one has answered"
    assert [note.what for note in learning.said] == [f"nightfold-{n} is served by {vllm.url}" for n in (41, 42)]


async def test_what_was_learnt_before_the_start_is_served_too(learning: Learning, vllm: FakeVllm) -> None:
    learning.house.path, learning.house.generation = learning.write(7), 7
    async with learning.served_at(vllm.url):
        await eventually(lambda: list(vllm.loaded) == ["nightfold-7"])


async def test_while_the_server_is_busy_only_the_newest_waits(learning: Learning, vllm: FakeVllm) -> None:
    async with learning.served_at(vllm.url):
        vllm.gate.clear()
        await learning.commits(1)
        await eventually(lambda: vllm.count("load_lora_adapter") == 1)
        for number in range(2, 30):
            await learning.commits(number)
        vllm.gate.set()
        await eventually(lambda: list(vllm.loaded) == ["nightfold-29"])
        await asyncio.sleep(0.1)
    assert vllm.count("load_lora_adapter") == 2


async def test_a_generation_that_retention_deleted_meanwhile_is_passed_over(learning: Learning, vllm: FakeVllm) -> None:
    async with learning.served_at(vllm.url):
        path = learning.write(1)
        shutil.rmtree(learning.home / path)
        await learning.say(GenerationCommitted("t", 1, path, "x", 1, "a0001", 1, 1, 0.1))
        await learning.commits(2)
        await eventually(lambda: list(vllm.loaded) == ["nightfold-2"])
        await eventually(lambda: len(learning.said) == 1)
        shutil.rmtree(learning.home / "state")
        vllm.loaded.clear()  # restarted, it reads its adapter again from the spool
        await eventually(lambda: list(vllm.loaded) == ["nightfold-2"])
    assert learning.codes == []


async def test_a_damaged_generation_is_never_served(learning: Learning, vllm: FakeVllm) -> None:
    async with learning.served_at(vllm.url):
        path = learning.write(1)
        (learning.home / path / "adapter_model.safetensors").write_bytes(b"bad luck")
        await learning.say(GenerationCommitted("t", 1, path, "x", 1, "a0001", 1, 1, 0.1))
        await eventually(lambda: learning.codes == ["NF-PLUGIN-013"])
    assert vllm.loaded == {}
    assert "differs from its manifest" in learning.said[0].what


async def test_a_server_that_is_down_is_told_once_and_served_when_it_is_up(learning: Learning) -> None:
    first = FakeVllm("m")
    first.shut()
    async with learning.served_at(first.url):
        for number in (1, 2, 3):
            await learning.commits(number)
            await asyncio.sleep(0.05)
        await eventually(lambda: learning.codes == ["NF-PLUGIN-010"])
        server = FakeVllm("m", port=first.port)
        try:
            await eventually(lambda: list(server.loaded) == ["nightfold-3"])
            await eventually(lambda: not learning.said[-1].code)
        finally:
            server.shut()
    assert learning.codes == ["NF-PLUGIN-010"]


async def test_a_server_without_loading_at_run_time_is_told_how_to_start(learning: Learning) -> None:
    server = FakeVllm("m", updating=False)
    try:
        async with learning.served_at(server.url):
            await learning.commits(1)
            await eventually(lambda: learning.codes == ["NF-PLUGIN-011"])
    finally:
        server.shut()
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in learning.said[0].hint


async def test_a_refusal_is_told_in_the_servers_words_and_the_older_stays(learning: Learning, vllm: FakeVllm) -> None:
    async with learning.served_at(vllm.url):
        await learning.commits(1)
        await eventually(lambda: list(vllm.loaded) == ["nightfold-1"])
        await learning.commits(2, rank=64)
        await eventually(lambda: learning.codes == ["NF-PLUGIN-013"])
    assert "it answered 500: LoRA rank 64 is greater than max_lora_rank 16." in learning.said[-1].what
    assert list(vllm.loaded) == ["nightfold-1"]


async def test_an_adapter_that_does_not_answer_is_not_called_served(learning: Learning, vllm: FakeVllm) -> None:
    vllm.mute = True
    async with learning.served_at(vllm.url):
        await learning.commits(1)
        await eventually(lambda: learning.codes == ["NF-PLUGIN-013"])
    assert "does not answer with it" in learning.said[-1].what


async def test_after_a_night_the_adapter_waits_for_a_server_of_the_new_base(learning: Learning, vllm: FakeVllm) -> None:
    async with learning.served_at(vllm.url):
        await learning.commits(1)
        await eventually(lambda: len(learning.said) == 1)
        assert list(vllm.loaded) == ["nightfold-1"]
        await learning.say(NightFinished(NIGHT, f"consolidated_models/{NIGHT}", 60.0))
        await learning.commits(2, night=NIGHT, adapter_step=0)
        await learning.commits(3, night=NIGHT)
        await eventually(lambda: learning.codes == ["NF-PLUGIN-012"])
        assert list(vllm.loaded) == ["nightfold-1"], "what fits stays"
        assert f"consolidated_models/{NIGHT}" in learning.said[-1].hint
        assert str(learning.home / f"consolidated_models/{NIGHT}") in learning.said[-2].what
        vllm.root, vllm.loaded = str(learning.home / "consolidated_models" / NIGHT), {}
        await eventually(lambda: list(vllm.loaded) == ["nightfold-3"])
    assert learning.codes == ["NF-PLUGIN-012"]


@pytest.mark.parametrize("knows_in_place", [True, False])
async def test_a_fixed_name_is_replaced(learning: Learning, *, knows_in_place: bool) -> None:
    server = FakeVllm("m", knows_in_place=knows_in_place)
    try:
        async with learning.served_at(server.url, lora_name="mine"):
            for number in (1, 2):
                await learning.commits(number)
                await eventually(lambda n=number: f"/{n:06d}-" in server.loaded.get("mine", ""))  # type: ignore[misc]
            await eventually(lambda: len(learning.spooled()) == 1)
    finally:
        server.shut()
    assert list(server.loaded) == ["mine"]
    assert server.count("unload_lora_adapter") == (0 if knows_in_place else 1)


async def test_a_number_that_comes_again_after_going_back_is_loaded_anew(learning: Learning, vllm: FakeVllm) -> None:
    vllm.loaded["nightfold-5"] = str(learning.home / "plugins/vllm/adapters/000005-abcdef12")
    async with learning.served_at(vllm.url):
        await learning.commits(5)
        await eventually(lambda: not vllm.loaded["nightfold-5"].endswith("abcdef12"))


async def test_the_key_is_sent_and_never_seen(
    learning: Learning, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLLM_KEY", "hunter2")
    server = FakeVllm("m", key="hunter2")
    try:
        async with learning.served_at(server.url, api_key_env="VLLM_KEY"):
            await learning.commits(1)
            await eventually(lambda: list(server.loaded) == ["nightfold-1"])
            monkeypatch.setenv("VLLM_KEY", "hunter3")
            await learning.commits(2)
            await eventually(lambda: learning.codes == ["NF-PLUGIN-013"])
            assert b"hunter" not in trace_files.encode(learning.system.trace.since(0))
    finally:
        server.shut()
    assert "it answered 401" in learning.said[-1].what
    assert "hunter" not in "".join(capfd.readouterr())


async def test_a_key_that_is_not_there_switches_the_plug_in_off(learning: Learning) -> None:
    table = {"actor": "vllm_reloader", "api_key_env": "NO_SUCH_VARIABLE_HERE"}
    tree = Branch("root", (Child("house", House, make=lambda: learning.house), plugin_branch({"vllm": table})))
    async with running(tree, disk=Disk(learning.home), clock=SystemClock()) as system:
        await eventually(lambda: system.cells["plugins.vllm"].state == "disabled")


async def test_a_server_in_a_container_sees_the_spool_elsewhere(learning: Learning) -> None:
    server = FakeVllm("m", folder=learning.home / "plugins/vllm/adapters", seen_as="/adapters")
    try:
        async with learning.served_at(server.url, server_folder="/adapters/"):
            await learning.commits(1)
            await eventually(lambda: list(server.loaded) == ["nightfold-1"])
    finally:
        server.shut()
    assert server.loaded["nightfold-1"].startswith("/adapters/000001-")


async def test_without_room_nothing_is_copied(learning: Learning, vllm: FakeVllm) -> None:
    learning.house.room = False
    async with learning.served_at(vllm.url):
        await learning.commits(1)
        await eventually(lambda: learning.codes == ["NF-DISK-001"])
        assert learning.spooled() == []
        learning.house.room = True
        await eventually(lambda: list(vllm.loaded) == ["nightfold-1"])


async def test_each_file_or_each_night_may_be_often_enough(learning: Learning, vllm: FakeVllm) -> None:
    async with learning.served_at(vllm.url, every="batch"):
        await learning.commits(1)
        await learning.commits(2)
        assert vllm.loaded == {}
        await learning.say(BatchTrained("000001", "a.jsonl", RECEIPT))
        await eventually(lambda: list(vllm.loaded) == ["nightfold-2"])
    vllm.loaded.clear()
    async with learning.served_at(vllm.url, every="night"):
        await learning.commits(3)
        await asyncio.sleep(0.05)
        assert vllm.loaded == {}
        await learning.say(NightStarted(NIGHT, "2026-11-23", 1))
        await eventually(lambda: list(vllm.loaded) == ["nightfold-3"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"url": "localhost:8000"}, "expected the server's address"),
        ({"url": "http://me:hunter2@x"}, "a key does not belong here"),
        ({"lora_name": "x-{step}"}, "only {generation} may stand in it"),
        ({"served_night": "last"}, "served_night: expected"),
        ({"every": "hour"}, '"generation", "batch", "night"'),
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, str], words: str) -> None:
    with pytest.raises(OperatorError) as caught:
        check_plugin("vllm", {"actor": "vllm_reloader", **wrong}, VllmReloaderSettings)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)
