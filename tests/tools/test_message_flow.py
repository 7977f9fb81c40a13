"""The message-flow chart: what it shows is what really passes, and the page that holds it is fresh."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.simulated_home import lived_in_home
from tools.message_flow import BEGIN, END, LISTENER, drawn, edges, main, placed
from tools.trace_views.recorded import read_runs

ROOT = Path(__file__).parents[2]


def test_every_message_that_really_passed_is_in_the_chart(tmp_path: Path) -> None:
    known = {(edge.sender, edge.message, edge.recipient) for edge in edges()}
    passed = {
        (record.sender.replace("outside", "daemon"), record.type, record.recipient)
        for run in read_runs(lived_in_home(tmp_path))
        for record in run.records
        if record.kind == "sent" and record.type not in ("Tick", "Stop")
    }
    assert len(passed) > 40
    assert passed - known == set()


def test_it_is_the_same_each_time_and_leaves_the_listener_out_of_the_arrows() -> None:
    picture = drawn(edges())
    assert picture == drawn(list(reversed(edges())))
    chart = picture.partition("```mermaid")[2].partition("```")[0]
    assert [line for line in chart.splitlines() if LISTENER in line and "-->" in line] == []
    assert "| `CommitGeneration` | trainer | checkpointer |" in picture
    assert "| `StateWanted` | consolidator, trainer | checkpointer | `StateInForce` |" in picture


def test_write_then_check_and_a_stale_page_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    assert main(["--check", str(page)]) == 1
    assert "stale" in capsys.readouterr().err
    assert main(["--write", str(page)]) == 0
    assert main(["--check", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("above\n")
    assert text.endswith("\nbelow\n")
    assert "old" not in text.splitlines()
    main(["--write", str(page)])
    assert page.read_text() == text


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        placed(text, "picture")
    (tmp_path / "PAGE.md").write_text(text)
    assert main(["--write", str(tmp_path / "PAGE.md")]) == 1
    assert (tmp_path / "PAGE.md").read_text() == text


def test_the_architecture_page_is_fresh() -> None:
    page = ROOT / "ARCHITECTURE.md"
    assert main(["--check", str(page)]) == 0, "python -m tools.message_flow --write ARCHITECTURE.md"
