"""What protects learning between batches (rows b1 to b8), and how each is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

STORE = "actors/checkpointer/store.py"
HEAD = "actors/checkpointer/head.py"
VERIFICATION = "actors/checkpointer/verification.py"
CHECKPOINTER = "actors/checkpointer/actor.py"
DURABLE = "runtime/durable.py"
FILING = "actors/inbox_watcher/filing.py"
TRAINER = "actors/trainer/actor.py"
ADAPTER = "actors/trainer/adapter.py"

DIGESTS = (VERIFICATION, "if digest != entry.digest:", "if False:")
MANIFESTS = (VERIFICATION, "if manifest_digest and durable.digest_of_bytes(raw) != manifest_digest:", "if False:")
SEALS = (VERIFICATION, "if not seal_holds(raw) or (manifest.cursor is not None and not has_seal(raw)):", "if False:")
COUNTERS = (VERIFICATION, "if any(value != getattr(manifest, field) for value in said.values()):", "if False:")
CHAIN = (VERIFICATION, "if grown < 0 or (same_adapter and", "if False and (same_adapter and")
WRITES_THE_PAPER = '    durable.write_file(disk, f"{folder}/{paper_name(name, kind)}", _readable(paper))\n'
FORGETS_THE_CLAIM = '    durable.remove(disk, f"{BATCHES}/{claimed.batch}")\n    return f'
WRITES_THE_GENERATION = """durable.write_directory(self._disk, path, {**content, MANIFEST: raw})
        read_back(self._disk, path, durable.digest_of_bytes(raw))"""

REMOVALS = (
    gone(
        "b1 b4 r2",
        "what is loaded is compared with its manifest",
        DIGESTS,
        tests="b1_damage b1_found b1_a_flipped b1_whatever b1_a_start b4_an_edited r2_",
    ),
    gone("b1", "a manifest is compared with what HEAD knows of it", MANIFESTS, tests="b1_a_swapped"),
    gone(
        "b4",
        "a manifest and what it lists are both compared, and what both say",
        DIGESTS,
        MANIFESTS,
        SEALS,
        COUNTERS,
        CHAIN,
        tests="by_hand b4_an_edited",
    ),
    gone(
        "b1",
        "a file that is in no manifest is damage",
        (VERIFICATION, "if present != set(manifest.files):", "if set(manifest.files) - present:"),
        tests="b1_an_unknown b1_a_file_too_many",
    ),
    gone(
        "b1",
        "what cannot be read is damage",
        (
            VERIFICATION,
            'except (OSError, msgspec.MsgspecError) as error:\n        raise Damaged(f"{folder}',
            'except msgspec.MsgspecError as error:\n        raise Damaged(f"{folder}',
        ),
        tests="b1_a_damaged_file b1_the_whole",
    ),
    gone(
        "b1 b2",
        "what is damaged is set aside and not deleted",
        (STORE, "durable.move_file(self._disk, path, target)", "durable.remove(self._disk, path)"),
        tests="b1_a_damaged_file b2_power_cut_while",
    ),
    gone(
        "b1",
        "damage that is found while running is healed",
        (CHECKPOINTER, "except Damaged:\n                await", "except ZeroDivisionError:\n                await"),
        tests="healed_on_the_spot whoever_loads",
    ),
    gone(
        "b1",
        "damage is told",
        (CHECKPOINTER, "for what, why, instead in opened.damage:", "for what, why, instead in ():"),
        tests="told_once a_flipped_bit",
    ),
    gone(
        "b2 b5 n3",
        "content is synced before it gets its name",
        (DURABLE, "disk.write(handle, data)\n        disk.fsync(handle)", "disk.write(handle, data)"),
        tests="b2_n3_power b2_a_second b2_power b2_the_page b5_power_cut",
    ),
    gone(
        "b2",
        "a home with nothing but folders is a new home",
        (
            STORE,
            '        for folder in ("state",',
            '        there = self._disk.stat("state")\n        for folder in ("state",',
        ),
        (STORE, "elif damage or self._anything_committed():", "elif damage or there is not None:"),
        tests="first_start",
    ),
    gone(
        "b2",
        "a new name is synced before anyone is told of it",
        (DURABLE, "raise\n    disk.fsync_dir(parent_of(path))\n\n\ndef show", "raise\n\n\ndef show"),
        tests="b2_n3_power",
    ),
    gone(
        "b2",
        "a HEAD that shows after a failed sync is remembered",
        (STORE, "self.head = new\n                    self._head_unsynced", "self._head_unsynced"),
        tests="after_a_refused_one",
    ),
    gone(
        "b2 r1",
        "a moved file's names are synced",
        (
            DURABLE,
            "disk.fsync_dir(parent_of(target))\n    disk.fsync_dir(parent_of(source))\n\n\ndef _copy",
            "\n\ndef _copy",
        ),
        tests="of_a_claim of_filing_may b2_a_second_power_cut_while_filing",
    ),
    gone(
        "b2 f6",
        "the paper is written before the file is moved beside it",
        (
            FILING,
            WRITES_THE_PAPER,
            "",
        ),
        (
            FILING,
            FORGETS_THE_CLAIM,
            WRITES_THE_PAPER + FORGETS_THE_CLAIM,
        ),
        tests="of_filing_may b2_a_second_power_cut_while_filing",
    ),
    gone(
        "b2",
        "a claim that is found is made durable before anyone hears of it",
        (FILING, 'disk.fsync_dir(f"{BATCHES}/{batch}")\n            disk.fsync_dir(INBOX)\n', "pass\n"),
        tests="taken_up_after",
    ),
    gone(
        "b2 d5 r1",
        "a claim that was interrupted is taken up and not removed",
        (FILING, "        if names:\n", "        if False:\n"),
        tests="of_a_claim r1_power_cut",
    ),
    gone(
        "b2 d5",
        "a filing that is repeated does not mind what the try before moved",
        (FILING, "    if source is not None:\n", "    if True:\n"),
        tests="repeated_after filing_may_be_repeated_without",
    ),
    gone(
        "b2 d5",
        "what interrupted work left is swept",
        (DURABLE, "for path in left:\n        remove(disk, path)\n", "left = []\n"),
        tests="killed_at_every of_a_claim refuses_at_every refused_at_every the_page_is_whole",
    ),
    gone(
        "b3",
        "a delete that failed is tried again by the clock",
        (CHECKPOINTER, 'may be over."""\n        await self._prune()', 'may be over."""'),
        tests="by_the_clock",
    ),
    gone(
        "b3",
        "a delete that fails is told and not raised",
        (
            STORE,
            "except OSError:\n                stuck.append",
            "except ZeroDivisionError:\n                stuck.append",
        ),
    ),
    gone(
        "b5 t1",
        "a generation is whole on the disk before HEAD names it",
        (
            STORE,
            WRITES_THE_GENERATION,
            "self.late = (path, {**content, MANIFEST: raw})",
        ),
        (
            STORE,
            "self._head_unsynced = False\n        return new",
            "self._head_unsynced = False\n        durable.write_directory(self._disk, *self.late)\n        return new",
        ),
        tests="b5_",
    ),
    gone(
        "b6",
        "the next number is above all by number",
        (
            HEAD,
            "max((kept.generation for kept in self.kept), default=0)",
            'int(max((str(kept.generation) for kept in self.kept), default="0"))',
        ),
        tests="9999",
    ),
    gone(
        "b6",
        "generations are sorted as numbers",
        (STORE, "key=int, reverse=True)", "reverse=True)"),
        tests="six_and_seven",
    ),
    gone(
        "b6",
        "claims are sorted as numbers",
        (FILING, "if name.isdigit()), key=int)", "if name.isdigit()))"),
        tests="999999_come",
    ),
    gone(
        "b6",
        "the next file is the lowest by number",
        (TRAINER, "min(self._queue, key=int)", "min(self._queue)"),
        tests="compared",
    ),
    gone(
        "b7",
        "a file that a manifest lists and that is gone is damage",
        (VERIFICATION, "if present != set(manifest.files):", "if present - set(manifest.files):"),
        (
            VERIFICATION,
            "    if found is None or found.size",
            "    if found is None:\n        return\n    if found.size",
        ),
        tests="missing_optimizer without_its_moments",
    ),
    gone(
        "b7",
        "the engine loads all tensors or none",
        (ADAPTER, "sorted(expected.keys() | tensors.keys())", "sorted(expected.keys() & tensors.keys())"),
        tests="all_or_refuse",
    ),
    gone("b8", "what a newer version wrote is refused", (HEAD, "if schema > SCHEMA:", "if False:"), tests="newer"),
    gone(
        "b8",
        "a commit migrates HEAD",
        (STORE, "            head,\n            schema=SCHEMA,", "            head,"),
        tests="older",
    ),
)
