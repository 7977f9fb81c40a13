"""The Notifier: what arrives, in which order, how often, and that no address is ever seen."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.notifier.actor import Notifier, NotifierSettings
from actors.notifier.apprise_post import Address, ApprisePost
from actors.notifier.words import Notice
from messages import (
    ActorGaveUp,
    BatchFailed,
    BatchRejected,
    BatchTrained,
    DiskRunningLow,
    LineError,
    Message,
    NightFinished,
    PluginNoted,
    Receipt,
    Report,
    Trouble,
)
from runtime import ActorSystem, Branch, Child, OperatorError, trace_files
from runtime.clock import SystemClock
from runtime.disk import Disk
from runtime.plugin_manners import WorkersApart
from runtime.plugins import plugin_branch
from runtime.settings import check_plugin
from runtime.simulation import SimDisk
from runtime.worker import ThreadWorkers
from tests.actors.notifier.post_office import PostOffice
from tests.actors.stage import Stage
from tests.runtime.scripted import eventually, running

SECRET = "hunter2"

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
"""apprise's own business."""


def rejected(number: int, name: str = "") -> BatchRejected:
    name = name or f"chats-{number}.jsonl"
    report = Report(
        batch=f"{number:06d}",
        name=name,
        trouble=Trouble("NF-DATA-001", "2 of 3 lines are not right", "mend the lines"),
        errors=(LineError(2, "$.prompt", "text", "3 (int)"),),
        error_count=2,
    )
    return BatchRejected(batch=f"{number:06d}", name=name, path=f"state/batches/{number:06d}/{name}", report=report)


def failed(number: int) -> BatchFailed:
    one = rejected(number)
    return BatchFailed(batch=one.batch, name=one.name, report=one.report)


def trained(number: int) -> BatchTrained:
    receipt = Receipt("", "", "", 10, 2, 20, 1, 20, "a0001", 1, 1, 0, 2.0, 1.0, 1.0)
    return BatchTrained(batch=f"{number:06d}", name=f"{number}.jsonl", receipt=receipt)


# On the real network: apprise, a real server, real threads.


@pytest.fixture
def office() -> Iterator[PostOffice]:
    found = PostOffice()
    yield found
    found.shut()


def at(home: Path, port: int, **settings: Any) -> dict[str, Any]:
    """What ``running`` needs: the real tree of plug-ins with one notifier."""
    url = f"json://marget:{SECRET}@127.0.0.1:{port}/{SECRET}"
    table = {"actor": "notifier", "urls": [url], "retry_first_seconds": 0.05, "retry_most_seconds": 0.2, **settings}
    return {
        "tree": Branch("root", (plugin_branch({"bell": table}),)),
        "disk": Disk(home),
        "clock": SystemClock(),
        "workers": WorkersApart(ThreadWorkers()),
    }


def bell(system: ActorSystem) -> str:
    return system.cells["plugins.bell"].state


def secrets_in(system: ActorSystem, home: Path) -> list[str]:
    """Wherever the address might be seen."""
    places = {path.as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    places["the trace"] = trace_files.encode(system.trace.since(0))
    return [name for name, data in places.items() if SECRET.encode() in data]


async def test_a_person_is_told_what_happened_whether_data_is_safe_and_what_to_do(
    tmp_path: Path, office: PostOffice
) -> None:
    async with running(**at(tmp_path, office.port, title="lighthouse")) as system:
        await eventually(lambda: bell(system) == "running", within=20)
        await system.send(rejected(1))
        await eventually(lambda: len(office.letters) == 1, within=20)
    [letter] = office.letters
    assert letter["title"] == "lighthouse: rejected chats-1.jsonl"
    assert letter["type"] == "failure"
    assert "chats-1.jsonl: 2 of 3 lines are not right" in letter["message"]
    assert "line 2: $.prompt: expected text, found 3 (int)" in letter["message"]
    assert "and 1 more" in letter["message"]
    assert "What to do: mend the lines" in letter["message"]
    assert "Is my data safe? " in letter["message"]
    assert "nightfold explain NF-DATA-001" in letter["message"]


async def test_a_server_that_was_down_gets_everything_in_order_once_it_is_up(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = PostOffice()
    first.shut()
    async with running(**at(tmp_path, first.port, quiet_seconds=0.0)) as system:
        await eventually(lambda: bell(system) == "running", within=20)
        for number in range(5):
            await system.send(rejected(number))
        outbox = tmp_path / "plugins/bell/outbox.json"
        await eventually(lambda: outbox.exists() and len(json.loads(outbox.read_bytes()).popitem()[1]) == 5, within=20)
        office = PostOffice(first.port)
        try:
            await eventually(lambda: len(office.letters) == 5, within=20)
        finally:
            office.shut()
        assert secrets_in(system, tmp_path) == []
    assert office.titles == [f"Nightfold: rejected chats-{number}.jsonl" for number in range(5)]
    assert SECRET not in "".join(capfd.readouterr())


async def test_what_a_stop_found_waiting_is_told_after_the_next_start(tmp_path: Path) -> None:
    first = PostOffice()
    first.shut()
    async with running(**at(tmp_path, first.port)) as system:
        await eventually(lambda: bell(system) == "running", within=20)
        await system.send(ActorGaveUp(actor="trainer", why="6 crashes", disabled=False))
        await eventually((tmp_path / "plugins/bell/outbox.json").exists, within=20)
    office = PostOffice(first.port)
    try:
        async with running(**at(tmp_path, office.port)):
            await eventually(lambda: len(office.letters) == 1, within=20)
    finally:
        office.shut()
    assert office.titles == ["Nightfold: the daemon gave up"]
    assert json.loads((tmp_path / "plugins/bell/outbox.json").read_bytes()) == {}


async def test_an_address_that_apprise_does_not_know_switches_only_the_notifier_off_and_is_not_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = at(tmp_path, 1, urls=f"nonsense://{SECRET}@x")
    async with running(**told) as system:
        await eventually(lambda: bell(system) == "disabled", within=20)
        assert secrets_in(system, tmp_path) == []
    with pytest.raises(OperatorError, match=r"cannot use address 1 of 1 \(nonsense\)") as caught:
        ApprisePost().open([f"nonsense://{SECRET}@x"])
    assert SECRET not in str(caught.value)
    assert SECRET not in "".join(capfd.readouterr())


async def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    notifier = Notifier()
    with pytest.raises(OperatorError) as caught:
        notifier._post.open(["json://x"])
    assert caught.value.code == "NF-PLUGIN-001"
    assert caught.value.hint == "pip install 'nightfold[notify]'"


# On virtual time, with a post that a test can stop.


class SimPost:
    """Takes notices unless the address is ``down``."""

    def __init__(self) -> None:
        self.arrived: list[list[tuple[str, str]]] = []
        self.down: set[int] = set()
        self.tries = 0

    def open(self, urls: Sequence[str]) -> tuple[Address, ...]:
        self.arrived = [[] for _ in urls]
        return tuple(Address(f"sim (address {number})", str(number)) for number, _ in enumerate(urls, start=1))

    def deliver(self, number: int, title: str, notice: Notice) -> bool:
        self.tries += 1
        if number in self.down:
            return False
        self.arrived[number].append((title, notice.body))
        return True


def stage(post: SimPost, disk: SimDisk | None = None, **settings: Any) -> Stage:
    found = NotifierSettings(**{"urls": ["a", "b"], **settings})
    return Stage(Child("plugins.bell", Notifier, make=lambda: Notifier(post), settings=found), disk=disk or SimDisk())


def test_a_storm_is_one_notice_and_then_one_for_each_quiet_time_with_the_count() -> None:
    post = SimPost()

    async def act(on: Stage) -> None:
        for number in range(2000):
            await on.tell(rejected(number))
            await on.rest(0.9)  # half an hour of it

    stage(post, quiet_seconds=600.0).play(act)
    titles = [title for title, _ in post.arrived[0]]
    assert titles[0] == "Nightfold: rejected chats-0.jsonl"
    assert len(titles) == 4, titles
    counts = [int(title.split(": ")[1].split()[0]) for title in titles[1:]]
    assert 1 + sum(counts) == 2000, "every one is counted"
    assert "times within 10 min, from “rejected chats-1.jsonl” to " in post.arrived[0][1][1]
    assert post.arrived[0] == post.arrived[1]


def test_kinds_are_quiet_each_for_itself() -> None:
    post = SimPost()

    async def act(on: Stage) -> None:
        await on.tell(rejected(1), rejected(2), failed(3), DiskRunningLow(free_bytes=5, free_bytes_min=10))
        await on.rest(10)

    stage(post).play(act)
    assert [title for title, _ in post.arrived[0]][:3] == [
        "Nightfold: rejected chats-1.jsonl",
        "Nightfold: failed chats-3.jsonl",
        "Nightfold: the disk is nearly full",
    ]


def test_an_address_that_is_down_holds_up_no_other_and_is_asked_less_and_less_often() -> None:
    post = SimPost()
    post.down = {0}

    async def act(on: Stage) -> None:
        await on.tell(rejected(1))
        await on.rest(2.0)
        assert len(post.arrived[1]) == 1
        await on.rest(3600.0)
        assert 8 <= post.tries <= 14, post.tries
        assert on.count(PluginNoted) == 1
        assert on.heard(PluginNoted)[0].code == "NF-PLUGIN-003"
        assert on.heard(PluginNoted)[0].what == "sim (address 1) does not take notices; 1 wait"
        await on.tell(failed(2))
        post.down = set()
        await on.rest(1000.0)

    stage(post).play(act)
    assert [title for title, _ in post.arrived[0]] == [title for title, _ in post.arrived[1]]


def test_what_is_said_again_after_a_restart_is_told_once() -> None:
    post = SimPost()

    async def act(on: Stage) -> None:
        for _ in range(3):
            await on.tell(failed(7))
            await on.rest(1000)

    stage(post).play(act)
    assert len(post.arrived[0]) == 1


def test_the_nights_notice_says_what_the_day_brought() -> None:
    post = SimPost()

    async def act(on: Stage) -> None:
        await on.tell(trained(1), trained(2), rejected(3))
        await on.tell(NightFinished(night="n1", model_path="consolidated_models/n1", seconds=61.0))
        await on.rest(2000)
        await on.tell(NightFinished(night="n2", model_path="consolidated_models/n2", seconds=61.0))
        await on.rest(10)

    stage(post, on=("night_done",)).play(act)
    bodies = [body for _, body in post.arrived[0]]
    assert "Files since the last: 2 learnt, 1 rejected, 0 failed." in bodies[0]
    assert "Files since the last: 0 learnt, 0 rejected, 0 failed." in bodies[1]


def test_only_what_was_asked_for_is_told_and_never_of_its_own_trouble() -> None:
    post = SimPost()
    own = PluginNoted(plugin="plugins.bell", what="x", code="NF-PLUGIN-003")
    other = PluginNoted(plugin="plugins.vllm", what="down", code="NF-PLUGIN-010")
    plain = PluginNoted(plugin="plugins.vllm", what="all is well")
    said: list[Message] = [trained(1), own, other, plain]

    async def act(on: Stage) -> None:
        await on.tell(*said)
        await on.rest(10)

    stage(post).play(act)
    assert [title for title, _ in post.arrived[0]] == ["Nightfold: plugins.vllm: trouble"]


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        ([f"json://{SECRET}", 3], "expected addresses, each a text in quotes"),
        ([], "expected an address"),
        ({"json": SECRET}, "expected"),
    ],
)
def test_a_finding_in_its_section_never_shows_an_address(urls: object, words: str) -> None:
    with pytest.raises(OperatorError) as caught:
        check_plugin("bell", {"actor": "notifier", "urls": urls}, NotifierSettings)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
