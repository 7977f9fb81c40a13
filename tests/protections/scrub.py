"""What finds and heals damage while the daemon lives (rows b1, b4, r1, d5), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.between_batches import COUNTERS, SEALS
from tests.protections.campaign import gone

STORE = "actors/checkpointer/store.py"
VERIFICATION = "actors/checkpointer/verification.py"
HEALING = "actors/checkpointer/healing.py"
CHECKPOINTER = "actors/checkpointer/actor.py"
TRAINER = "actors/trainer/actor.py"
NIGHTS = "actors/consolidator/actor.py"

REMOVALS = (
    gone("b1", "a manifest is compared with its seal", SEALS, tests="b1_every_bit"),
    gone(
        "b1",
        "a damaged generation that is not in force is let go of",
        (HEALING, "self._store.let_go(thing.path)", "pass"),
        tests="b1_a_generation_not b1_a_night_whose b1_each_kind b1_older",
    ),
    gone(
        "b1",
        "a night goes with its damaged generation",
        (STORE, "nights=tuple(night for night in head.nights if night.generation not in gone)", "nights=head.nights"),
        tests="b1_a_night_whose",
    ),
    gone(
        "b1",
        "a damaged snapshot is set aside",
        (STORE, "        self.set_aside(path)\n        return pinned", "        return pinned"),
        tests="b1_a_snapshot b1_head_unpins b1_each_kind",
    ),
    gone(
        "b1",
        "a damaged snapshot loses its pin",
        (STORE, "if head is not None and pinned:", "if False:"),
        tests="b1_head_unpins",
    ),
    gone(
        "b1",
        "a delta is made anew from the generation that was folded",
        (HEALING, '(folded, next((one.manifest for one in kept if one.path == folded), "")),', ""),
        tests="from_the_generation_that b1_each_kind",
    ),
    gone(
        "b1",
        "retention takes no folded generation before its delta was read",
        (STORE, "            if needing is not None:\n", "            if False:\n"),
        tests="b1_the_last_copy b1_d5_the_last_copy",
    ),
    gone(
        "b1",
        "a delta whose last copy was spared is healed from it",
        (CHECKPOINTER, "        if pruned.damaged:\n", "        if False:\n"),
        tests="b1_the_last_copy b1_d5_the_last_copy",
    ),
    gone(
        "b1",
        "a delta is made anew from a snapshot",
        (HEALING, '*((path, "") for path in self._snapshots()),', ""),
        tests="from_a_snapshot",
    ),
    gone(
        "b1",
        "a copy of a delta is compared with the delta's manifest",
        (HEALING, "return data if durable.digest_of_bytes(data) == entry.digest else None", "return data or None"),
        tests="b1_a_copy",
    ),
    gone(
        "b1",
        "what cannot be healed is told once",
        (HEALING, "news=damage.news and not known", "news=damage.news"),
        tests="b1_without_a_copy",
    ),
    gone(
        "b1",
        "what was restored by hand is told",
        (HEALING, 'again = thing.path if self._unhealed.pop(thing.path, None) is not None else ""', 'again = ""'),
        tests="b1_without_a_copy",
    ),
    gone(
        "b1",
        "what a person had pinned outlives HEAD",
        (STORE, "msgspec.structs.replace(one, pinned=True) for one in kept[1:]", "one for one in kept[1:]"),
        tests="b1_where_head",
    ),
    gone(
        "b1",
        "who trains is told that what is in force is damaged",
        (CHECKPOINTER, "        if damage.in_force:\n", "        if False:\n"),
        tests="whoever_trains again_and_again while_it_trains_and b1_a_living",
    ),
    gone(
        "b1",
        "what is damaged is set aside once something else is in force",
        (STORE, "return self._without_condemned(msgspec.structs.replace(", "return (msgspec.structs.replace("),
        (STORE, "kept=kept.kept, nights=kept.nights), newest)", "kept=kept.kept, nights=kept.nights))"),
        tests="whoever_trains",
    ),
    gone(
        "b1",
        "what is in memory is committed in the place of what is damaged",
        (TRAINER, "            self._anew = True\n            self._changes += 1\n", ""),
        tests="b1_an_idle while_it_trains_and",
    ),
    gone(
        "b1",
        "a Trainer that has loaded nothing has nothing to commit anew",
        (TRAINER, "        if self._loaded:  # else", "        if True:  # else"),
        (
            TRAINER,
            "        self._anew = False\n        self._changes = self._comm",
            "        self._changes = self._comm",
        ),
        tests="b1_a_trainer_that_holds",
    ),
    gone(
        "b1",
        "no adapter is begun while the one before is damaged on disk",
        (
            TRAINER,
            "        if self._changes != self._committed_changes:\n            return AdapterNotBegun",
            "        if False:\n            return AdapterNotBegun",
        ),
        tests="b1_a_trainer_that_has_yielded",
    ),
    gone(
        "b1",
        "no night is made on a damaged delta",
        (NIGHTS, "        if force.ledger_damage:\n", "        if False:\n"),
        tests="b1_a_damaged_delta",
    ),
    gone(
        "b1",
        "a night that damage refused comes once that is healed",
        (NIGHTS, 'may be mended."""\n        self._refused_at = None', 'may be mended."""'),
        tests="b1_a_damaged_delta",
    ),
    gone(
        "b1",
        "a night waits for a sound generation",
        (
            NIGHTS,
            "        if force.damage:\n            self._force = None\n            return",
            "        if False:\n            return",
        ),
        tests="b1_no_night",
    ),
    gone(
        "b1",
        "the Trainer's memory is not let go of while the disk is damaged",
        (NIGHTS, "timeout=ASK_SECONDS)).damage:", "timeout=ASK_SECONDS)).damage and False:"),
        tests="b1_what_is_damaged_during",
    ),
    gone(
        "b1 r1",
        "a damaged HEAD is written anew from memory",
        (HEALING, "self._store.write_head_again()", "pass"),
        tests="r1_head_is b1_older",
    ),
    gone(
        "b4",
        "counters in manifest, state and HEAD are compared",
        COUNTERS,
        tests="b4_a_counter",
    ),
    gone(
        "b4",
        "the cursor in manifest and state is compared",
        (VERIFICATION, "if manifest.cursor is not None and manifest.cursor != place_of(state):", "if False:"),
        tests="b4_a_cursor",
    ),
    gone(
        "b4",
        "a commit goes on from its parent",
        (STORE, "check_chain(path, manifest, head.kept)  #", "pass  #"),
        tests="b4_a_commit",
    ),
    gone(
        "d5",
        "a disk that refuses to let damage be healed is told",
        (
            HEALING,
            "except OSError as error:\n            return Damage(thing.path",
            "except ZeroDivisionError as error:\n            return Damage(thing.path",
        ),
        tests="d5_a_disk_that_refuses_the",
    ),
)
