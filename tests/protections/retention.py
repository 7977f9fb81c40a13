"""What retention keeps and lets go of (row d2, and what is beside it), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

STORE = "actors/checkpointer/store.py"
HEAD = "actors/checkpointer/head.py"
RETENTION = "actors/checkpointer/retention.py"
PINNING = "actors/checkpointer/pinning.py"
CHECKPOINTER = "actors/checkpointer/actor.py"
NIGHTS = "actors/consolidator/actor.py"
UPKEEP = "actors/inbox_watcher/upkeep.py"
VALIDATOR = "actors/validator/actor.py"

REMOVALS = (
    gone(
        "d2",
        "a day has one snapshot",
        (STORE, "if self.head is None or self._disk.stat(path) is not None:", "if self.head is None:"),
        tests="d2_one d2_counts",
    ),
    gone(
        "d2",
        "the newest so many generations are kept and no more",
        (
            RETENTION,
            "            if rank >= most:\n                self._go[",
            "            if False:\n                self._go[",
        ),
        tests="d2_counts d2_only",
    ),
    gone(
        "d2",
        "what is in force is kept",
        (RETENTION, 'self._hold(head.generation, "in force")', "pass"),
        (RETENTION, 'self._hold(head.went_back.to, "what one went back to")', "pass"),
        tests="d2_in_force",
    ),
    gone(
        "d2",
        "both ends of a rollback are kept",
        (RETENTION, 'self._hold(head.went_back.left, "left by going back")', "pass"),
        tests="d2_in_force d2_a_rollback",
    ),
    gone(
        "d2",
        "the generations of nights are kept",
        (
            RETENTION,
            "            if stays:\n                self._hold_night",
            "            if False:\n                self._hold_night",
        ),
        tests="d2_the_generations",
    ),
    gone(
        "d2 b2",
        "a pinned generation is kept",
        (RETENTION, "            if kept.pinned:\n", "            if False:\n"),
        tests="d2_a_pinned_generation d2_a_pin_is b2_d2",
    ),
    gone(
        "d2",
        "a pinned night is kept with its generations",
        (
            RETENTION,
            "            if night.pinned:\n                self._hold",
            "            if False:\n                self._hold",
        ),
        (
            RETENTION,
            "            if night.pinned:\n                stays",
            "            if False:\n                stays",
        ),
        tests="d2_a_pinned_night",
    ),
    gone(
        "d2 b2",
        "a pinned snapshot is kept",
        (RETENTION, '{f"{SNAPSHOTS}/{one.day}" for one in head.snapshots} if head else set(),', "set(),"),
        tests="d2_a_pinned_snapshot b2_d2",
    ),
    gone(
        "d2",
        "the model of a pinned snapshot is needed",
        (
            HEAD,
            "{kept.model_path for kept in self.kept} | {one.model_path for one in self.snapshots}",
            "{kept.model_path for kept in self.kept}",
        ),
        tests="d2_a_pinned_snapshot",
    ),
    gone(
        "d2",
        "a pin that changes is told to all",
        (CHECKPOINTER, "if isinstance(answer, PinSet) and answer.was != answer.pinned:", "if False:"),
        tests="d2_a_pin_is",
    ),
    gone(
        "d2",
        "a pin that the disk refuses is an answer",
        (PINNING, "except OSError as error:", "except ZeroDivisionError as error:"),
        tests="d2_a_pin_that",
    ),
    gone(
        "d2",
        "bounds hold without a commit",
        (STORE, "            self._let_go()\n", ""),
        tests="d2_a_lower",
    ),
    gone(
        "d2",
        "HEAD lets go before the disk does",
        (STORE, "            self._let_go()\n            self._set_condemned_aside()\n", ""),
        (
            STORE,
            "        return Pruned(tuple(deleted), tuple(stuck), ",
            "        self._let_go()\n        return Pruned(tuple(deleted), tuple(stuck), ",
        ),
        (STORE, 'if one.kind == "generation" and one.path not in reached', 'if one.kind == "generation"'),
        tests="d2_a_lower",
    ),
    gone(
        "d5",
        "what HEAD still names is not deleted",
        (STORE, 'if one.kind == "generation" and one.path not in reached', 'if one.kind == "generation"'),
        tests="d5_what_head",
    ),
    gone(
        "d2",
        "a model that nothing stands on goes with the generation",
        (NIGHTS, "if not set(there) <= set(retention.models_needed):", "if False:"),
        tests="d2_a_model",
    ),
    gone(
        "d2",
        "news of retention is held against what is in force",
        (
            NIGHTS,
            "if not set(there) <= set(retention.models_needed):\n            await self._tidy()",
            "if True:\n            await self.blocking(lambda: self._remove_unneeded(set(retention.models_needed)))",
        ),
        tests="d2_a_model",
    ),
    gone(
        "b2",
        "what is let go of in trained/ is remembered first",
        (UPKEEP, "    _remember(disk, [file.receipt for file in going])\n", ""),
        tests="b2_a_power_cut_at",
    ),
    gone(
        "f6",
        "content that was let go of is known still",
        (
            VALIDATOR,
            "for line in self.disk.read(FORGOTTEN).splitlines() if self.disk.stat(FORGOTTEN) is not None else ():",
            "for line in ():",
        ),
        tests="f6_content_whose",
    ),
)
