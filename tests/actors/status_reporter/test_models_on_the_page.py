"""A person sees what becomes of a damaged model: as lines, as problems with codes, and in what training waits for."""

from __future__ import annotations

from actors.status_reporter.lines import line_for
from actors.status_reporter.page import Folder, Page
from messages import Message, ModelGivenUp, ModelHealed, ModelNotHealed, TrainingWaits

MODEL = "consolidated_models/n1"


def page_after(*said: Message) -> Page:
    page = Page()
    folder = Folder(page)
    for message in said:
        folder.fold(message, "now")
    return page


def test_training_waits_until_the_model_is_healed() -> None:
    waits = TrainingWaits(name=MODEL, why="a sound model (a bit)")
    assert "a sound model" in page_after(waits).reason
    assert "a sound model" not in page_after(waits, ModelHealed(path=MODEL, anew=True, seconds=1.0)).reason


def test_what_is_not_healed_or_given_up_is_a_problem_with_its_code() -> None:
    page = page_after(ModelNotHealed(path=MODEL, code="NF-MERGE-005", why="no memory", again_in_s=60.0))
    assert page.last_error is not None
    assert (page.last_error.code, "60 s" in page.last_error.hint) == ("NF-MERGE-005", True)
    page = page_after(ModelGivenUp(path=MODEL, code="NF-MERGE-050", why="other bytes", instead="state/generations/1"))
    assert page.last_error is not None
    assert page.last_error.code == "NF-MERGE-050"
    assert "state/generations/1" in page.last_error.hint


def test_each_has_its_line_and_what_was_sound_has_none() -> None:
    assert "healed" in (line_for(ModelHealed(path=MODEL, anew=True, seconds=1.0)) or "")
    assert line_for(ModelHealed(path=MODEL, anew=False, seconds=0.0)) is None
    assert "NF-MERGE-005" in (line_for(ModelNotHealed(path=MODEL, code="NF-MERGE-005", why="w", again_in_s=1.0)) or "")
    assert "given up" in (line_for(ModelGivenUp(path=MODEL, code="NF-MERGE-050", why="w", instead="i")) or "")
