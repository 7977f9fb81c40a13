"""What protects held-out text and what it decides (row n10), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

NIGHTS = "actors/consolidator/actor.py"
MEASURE = "actors/consolidator/held_out.py"
CHILD = "actors/consolidator/merge_child.py"
CHOICE = "actors/trainer/held_out.py"
TORCH = "actors/trainer/torch_engine.py"
SIMULATED = "tools/simulated_house/engine.py"
REPLAY = "tools/replay.py"

REMOVALS = (
    gone(
        "n10",
        "a merged model may not be worse on held-out text",
        (NIGHTS, "if found is None or found.merged <= found.adapter + tolerance:", "if True:"),
        tests="n10_a_merged_model_that_is n10_the_gate n10_an_error n10_a_night",
    ),
    gone(
        "n10",
        "a merged model is held against what is in force and nothing else",
        (NIGHTS, "found.merged <= found.adapter + tolerance:", "found.merged <= found.yesterday + tolerance:"),
        tests="n10_the_gate",
    ),
    gone(
        "n10",
        "a small model is measured in float32",
        (MEASURE, "self._in_float32 = parameters <= IN_FLOAT32_MAX", "self._in_float32 = False"),
        tests="n10_a_sound",
    ),
    gone(
        "n10",
        "a merge is measured on what the generation keeps",
        (CHILD, ", held_out=kept_in_generation(adapters[-1])", ""),
        tests="n10_the_child",
    ),
    gone(
        "n10",
        "what is held out is in no step",
        (TORCH, "            frozenset(windows),\n        )\n", "            frozenset(),\n        )\n"),
        tests="n10_what_is_held",
    ),
    gone(
        "n10",
        "what is held out is in no step of the simulated engine",
        (SIMULATED, "if number not in measured]", "]"),
        tests="n10_an_example",
    ),
    gone(
        "n10 t1",
        "a file that was open holds out as many as then",
        (CHOICE, "    if cursor.steps:\n", "    if False:\n"),
        tests="n10_t1",
    ),
    gone(
        "n10",
        "a replay reads what a merge was measured to be",
        (REPLAY, "if (losses := _losses(refused.value)) is not None:", "if (losses := None) is not None:"),
        tests="n10_a_merge_is",
    ),
)
