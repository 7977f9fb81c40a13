"""The house in its short story: evenly spaced operations and messages of it, with every fault; the long run has all."""

from __future__ import annotations

import pytest

from actors.consolidator.actor import Consolidator
from messages import Message, SurveyWanted
from runtime import durable
from runtime.disk import DiskPort
from runtime.simulation import SimLoop
from tools.exhaustion.__main__ import main
from tools.exhaustion.replay import replay_story
from tools.exhaustion.story import SEED, a_home, live, undisturbed
from tools.exhaustion.story_end import Announced, after_the_stop, told
from tools.exhaustion.story_sweep import PARTS, StorySweep, points_of
from tools.exhaustion.tally import both_orders
from tools.exhaustion.tasks import evenly

SAMPLE = {"cuts": 54, "kills": 54, "errors": 24, "messages": 24}
SHARES = 3


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("part", PARTS)
def test_after_a_fault_the_story_ends_as_if_there_had_been_none(part: str, share: int) -> None:
    points = evenly(points_of(part), SAMPLE[part])[share::SHARES]
    tally = StorySweep(torn_at_most=4).run(part, points)
    assert not tally.violations
    assert tally.total >= len(points)


@pytest.mark.parametrize("part", ["cuts", "kills"])
def test_cut_again_in_the_life_after_a_cut_or_a_kill_the_story_still_ends_well(part: str) -> None:
    tally = StorySweep(torn_at_most=1, again=40).run(part, [points_of(part) * 3 // 4])
    assert not tally.violations
    assert tally.cases["cut again"] > 5


def test_the_story_has_in_it_what_is_to_be_tried() -> None:
    end, ended = undisturbed()
    assert (end.global_step, end.adapter, len(end.deltas)) == (2, ("a0002", 0), 1)
    assert [paper[0] for paper in end.papers] == ["bad.jsonl", "good.jsonl"]
    assert ended.lost == ""
    assert undisturbed() == (end, ended), "the same story, operation for operation"
    loop = SimLoop(SEED)
    loop.close()
    assert loop._slip_one_in == 0, "no task slips"


def test_crashes_lead_messages_to_meet_in_both_orders() -> None:
    tally = StorySweep().run("messages", evenly(points_of("messages"), 8))
    both, pairs = both_orders(tally.met)
    assert 0 < both < pairs


def test_a_restarted_consolidator_is_told_how_the_inbox_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it waits for a change of the inbox before it holds a night, and where nothing changes there is none."""
    handled: list[str] = []
    live(
        a_home(),
        1,
        Announced(),
        lambda number, actor, envelope, moment: _note(handled, actor, envelope.message, moment),
    )
    number = handled.index("consolidator ConsolidateNow") + 1
    assert replay_story(f"crash@{number}.before") == ""
    sound = Consolidator.send

    async def send(self: Consolidator, message: Message) -> None:
        if not isinstance(message, SurveyWanted):
            await sound(self, message)

    monkeypatch.setattr(Consolidator, "send", send)
    handled.clear()
    live(
        a_home(),
        1,
        Announced(),
        lambda number, actor, envelope, moment: _note(handled, actor, envelope.message, moment),
    )
    number = handled.index("consolidator ConsolidateNow") + 1
    assert "not told after" in replay_story(f"crash@{number}.before")


def _note(handled: list[str], actor: str, message: Message, moment: str) -> None:
    if moment == "before":
        handled.append(f"{actor} {type(message).__name__}")


def test_a_commit_that_is_announced_before_it_is_durable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sound, points = durable.write_file, points_of("cuts")  # of the house as it is

    def write_file(disk: DiskPort, path: str, data: bytes) -> None:
        if path == "state/HEAD":
            temporary = durable.hidden(path, "tmp")
            durable.write_new(disk, temporary, data)
            disk.rename(temporary, path)
        else:
            sound(disk, path, data)

    monkeypatch.setattr(durable, "write_file", write_file)
    tally = StorySweep(torn_at_most=1).run("cuts", range(1, points, 9))
    found = [(path, why) for path, why in tally.violations if "announced" in why]
    assert found
    path, _ = found[0]
    assert "announced" in replay_story(path), "a cut for real finds the same"


def test_what_the_story_came_to_is_compared_to_the_last_paper() -> None:
    disk = a_home()
    live(disk, 1, Announced())
    last = after_the_stop(disk)
    assert told(last) == undisturbed()[0]
    last.person_put("trained/good.jsonl.2", b"what does not belong there")
    with pytest.raises(AssertionError, match="does not belong"):
        told(last)


def test_the_command_prints_a_table_and_repeats_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--level", "protocols", "--only", "replace_link", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "replace_link: make" in printed
    assert "however often the power goes" in printed
    assert main(["--replay", "replace_link: make", "cut@2.before.lose_all kill@1"]) == 0
    assert main(["--replay", "no such protocol", "kill@1"]) == 2
