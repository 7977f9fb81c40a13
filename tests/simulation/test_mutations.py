"""The simulation bites: bugs are planted one at a time, and each is found within a stated number of seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from actors.checkpointer import store
from actors.inbox_watcher import actor as inbox_watcher
from actors.inbox_watcher import filing
from runtime import durable
from runtime.simulation import SimDisk
from tests.simulation.hunt import STILLBORN, Catch, Stillborn, Unsound, attempt, hunt, in_one_line, line, table, weather
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.planting import Edit, NotThere, function_at, planted, source_of
from tools.simulate import run_seed

PAGE = Path(__file__).with_name("MUTATIONS.md")
ENOUGH = 28
SEEN = [mutation for mutation in MUTATIONS if not mutation.blind]
BLIND = [mutation for mutation in MUTATIONS if mutation.blind]
STAGED = [mutation for mutation in MUTATIONS if mutation.scenery]
CLIMATES = {str(mutation.climate): mutation for mutation in sorted(SEEN, key=lambda one: -one.days)}


def named(mutation: Mutation) -> str:
    return mutation.name


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", SEEN, ids=named)
def test_the_simulation_finds_it(mutation: Mutation, record_property: Callable[[str, object], None]) -> None:
    catch = hunt(mutation)
    print(line(mutation, catch))
    record_property("mutation", line(mutation, catch))
    assert catch.violation, f"{mutation.within} seeds did not find it: {mutation.breaks}"


@pytest.mark.parametrize("mutation", BLIND, ids=named)
def test_what_it_is_blind_to_can_still_be_planted(mutation: Mutation) -> None:
    with planted((*mutation.scenery, *mutation.edits)):
        pass


@pytest.mark.parametrize("mutation", STAGED, ids=named)
def test_scenery_alone_breaks_nothing(mutation: Mutation) -> None:
    with weather(mutation), planted(mutation.scenery):
        broken = [run_seed(seed, mutation.days).violation for seed in range(5)]
    assert not any(broken)


@pytest.mark.parametrize("mutation", CLIMATES.values(), ids=CLIMATES)
def test_the_climate_alone_breaks_nothing(mutation: Mutation) -> None:
    with weather(mutation):
        broken = [run_seed(seed, mutation.days).violation for seed in range(8)]
    assert not any(broken)


def test_the_list_is_long_and_each_is_told_apart() -> None:
    assert len(SEEN) >= ENOUGH
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert len({mutation.edits for mutation in MUTATIONS}) == len(MUTATIONS)
    for mutation in MUTATIONS:
        assert mutation.breaks.endswith(".")
        assert "|" not in mutation.name + mutation.breaks + mutation.blind


def test_the_page_lists_every_mutation() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for mutation in MUTATIONS:
        assert f"| {mutation.name} | {mutation.breaks} |" in page, f"make mutations: {mutation.name}"
    assert page.count("\n| ") == len(MUTATIONS) + 2 * (1 + bool(BLIND))


# The planting itself.


HARMLESS = Edit("actors.checkpointer.retention:trimmed", "not verdict.stays", "verdict.stays is False")
WITHOUT_SYNC = Edit("runtime.durable:write_new", "\n        disk.fsync(handle)", "")


def test_what_is_planted_runs_and_is_taken_back() -> None:
    def operations() -> list[str]:
        disk = SimDisk()
        durable.write_new(disk, "file", b"data")
        return [operation for _, operation, _ in disk.log]

    before = operations()
    with planted((WITHOUT_SYNC,)):
        assert [operation for operation in before if operation != "fsync"] == operations()
    assert operations() == before == ["create", "write", "fsync"]


def test_whoever_imported_the_function_runs_the_bug() -> None:
    with planted((Edit("actors.inbox_watcher.filing:paper_name", "return whole", "return 'planted'"),)):
        assert filing.paper_name("a", "receipt") == "planted"
    imported: Callable[[SimDisk], object] = vars(inbox_watcher)["recover_claims"]
    with planted((Edit("actors.inbox_watcher.filing:recover_claims", "return tuple(found)", "return 'planted'"),)):
        disk = SimDisk()
        durable.ensure_directory(disk, filing.BATCHES)
        assert imported(disk) == "planted"


def test_code_that_is_no_longer_there_is_told_and_nothing_is_planted() -> None:
    before = durable.write_new.__code__
    gone = Edit("runtime.durable:write_new", "disk.sync(handle)", "")
    with pytest.raises(NotThere, match=r"0 times and not once:\ndisk\.sync"), planted((WITHOUT_SYNC, gone)):
        pytest.fail("planted")
    assert durable.write_new.__code__ is before
    for where in ("runtime.durable:no_such", "runtime.durable:CHUNK_BYTES", "actors.checkpointer.store:Store.gone"):
        with pytest.raises(NotThere):
            source_of(where)


def test_code_that_stands_there_twice_is_told() -> None:
    twice = Edit("runtime.durable:write_file", "temporary", "path")
    with pytest.raises(NotThere, match="times and not once"), planted((twice,)):
        pytest.fail("planted")


def test_comments_layout_docstrings_and_decorators_do_not_matter() -> None:
    assert source_of("runtime.durable:_writing").startswith("def _writing(disk: DiskPort, path: str)")
    assert '"""' not in source_of("actors.checkpointer.store:Store.commit")
    assert "#" not in source_of("actors.checkpointer.store:Store.snapshot")
    assert function_at("actors.checkpointer.head:Head.in_force").__name__ == "in_force"
    assert function_at("actors.checkpointer.store:library_versions").__module__ == store.__name__


def test_a_mutation_that_does_not_run_is_no_catch() -> None:
    stillborn = Mutation(
        name="it does not run",
        breaks="Nothing.",
        edits=(
            Edit("actors.checkpointer.store:Store.open", "self.head = self._read_head(damage)", "self.head = nobody"),
        ),
        within=2,
        days=0.02,
    )
    with pytest.raises(Stillborn, match="|".join(STILLBORN)):
        hunt(stillborn)
    assert attempt(stillborn).problem.startswith("Stillborn")
    assert "Stillborn" in line(stillborn, attempt(stillborn))


def test_what_breaks_without_the_bug_is_no_catch_of_it() -> None:
    """The scenery here is itself a bug."""
    unsound = Mutation(
        name="it is not what was found",
        breaks="Nothing.",
        edits=(HARMLESS,),
        within=2,
        scenery=(
            Edit("actors.checkpointer.store:Store._prunable", "not verdict.stays", "verdict"),
            Edit("actors.checkpointer.store:Store._prunable", " and one.path not in reached", ""),
        ),
    )
    with pytest.raises(Unsound, match="breaks without the bug: "):
        hunt(unsound)


def test_one_that_breaks_nothing_is_not_found() -> None:
    harmless = Mutation(
        name="it changes nothing",
        breaks="Nothing.",
        edits=(HARMLESS,),
        within=2,
        days=0.02,
    )
    assert hunt(harmless) == Catch(2, "")


def test_the_table_tells_what_was_found_and_what_was_not() -> None:
    found, lost, unseen = (
        Mutation(name=name, breaks="It does.", edits=(), within=9, blind=blind)
        for name, blind in (("a", ""), ("b", ""), ("c", "a checker"))
    )
    page = table([(found, Catch(3, "first\n|second")), (lost, Catch(9, "")), (unseen, Catch(9, ""))])
    assert "| a | It does. | 3 of 9 | first /second |" in page
    assert "| b | It does. | 9 of 9 | **not found** |" in page
    assert "| c | It does. | a checker |" in page
    assert "NOT FOUND" in line(lost, Catch(9, ""))
    assert "no longer blind" in line(unseen, Catch(2, "seen"))
    assert in_one_line("x" * 500).endswith("…")
