"""What protects merged models (row b9, and of b8 and r1 what they share), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

STORE = "actors/checkpointer/store.py"
HEAD = "actors/checkpointer/head.py"
TRAINER = "actors/trainer/actor.py"
JOBS = "actors/trainer/jobs.py"
HEALING = "actors/checkpointer/healing.py"
CARE = "actors/consolidator/model_care.py"
CHILD = "actors/consolidator/merge_child.py"
MODEL_MANIFEST = "actors/consolidator/model_manifest.py"
MANIFEST = "runtime/manifest.py"

REMOVALS = (
    gone(
        "b9",
        "a merged model is compared with what was committed before it is loaded",
        (JOBS, "verify_folder(self._disk, force.model_path, force.model_digest)", "pass"),
        tests="b9_nothing_damaged b9_the_next b9_the_whole",
    ),
    gone(
        "b9",
        "every byte of a merged model is compared with its manifest",
        (MANIFEST, "if digest != entry.digest:", "if False:"),
        tests="b9_a_turned b9_what_cannot b9_the_scrub",
    ),
    gone(
        "b9",
        "a merged model holds no file that its manifest does not list",
        (MANIFEST, "if present != set(manifest.files):", "if set(manifest.files) - present:"),
        tests="b9_a_file_that",
    ),
    gone(
        "b9",
        "a merged model's manifest is compared with what HEAD knows of it",
        (MANIFEST, "if digest and table_digest(manifest.files) != digest:", "if False:"),
        tests="b9_another",
    ),
    gone(
        "b9",
        "a Trainer asks again whoever has begun anew",
        (TRAINER, "if other.incarnation > 1 and self._model_awaited is not None:", "if False:"),
        tests="b9_the_next",
    ),
    gone(
        "b9",
        "a Trainer goes on once its model is healed or given up",
        (
            TRAINER,
            '            self._model_awaited = None\n            self._told = ""\n            await self._advance()\n',
            "            pass\n",
        ),
        tests="b9_nothing_damaged b9_given_up",
    ),
    gone(
        "b9",
        "a merged model is compared before its first adapter",
        (JOBS, "                verify_folder(self._disk, model_path, model_digest)\n", "                pass\n"),
        tests="b9_a_model_that_rots",
    ),
    gone(
        "b9",
        "a generation on a lost model is not put in force",
        (STORE, "            if kept.model_path in lost:\n", "            if False:\n"),
        tests="b9_leaving",
    ),
    gone(
        "b9",
        "what takes the place of a lost model is sound",
        (STORE, "continue  # told when", "pass  # told when"),
        tests="b9_leaving_a_model_puts",
    ),
    gone(
        "b9",
        "a model is looked at before it is called sound",
        (CARE, "        verify_model(disk, model.path, model.digest)\n", "        pass\n"),
        tests="b9_a_damaged_model b9_a_model_that_is_gone",
    ),
    gone(
        "b9",
        "a model without a digest is proven when it is made anew",
        (CARE, 'proof="none" if model.digest else "tensors"', 'proof="none"'),
        tests="b9_a_model_of",
    ),
    gone(
        "b9",
        "what may pass gives no model up",
        (CARE, "elif refused.code in PASSES or not waited:", "elif not waited:"),
        tests="b9_what_may",
    ),
    gone(
        "b9",
        "what nobody waits for gives no model up",
        (CARE, "elif refused.code in PASSES or not waited:", "elif refused.code in PASSES:"),
        tests="b9_rot_that",
    ),
    gone(
        "b9",
        "a model is made anew where there is room for it",
        (CARE, "        if not isinstance(space, SpaceGranted):\n", "        if False:\n"),
        tests="b9_without_space",
    ),
    gone(
        "b9",
        "a model that is made anew is the one that was committed",
        (CARE, "model.digest and outcome.digest != model.digest:", "False:"),
        tests="b9_other_bytes",
    ),
    gone(
        "b9",
        "with no other model to stand on the daemon ends in words",
        (CARE, "        if not isinstance(left, ModelsLeft):\n", "        if False:\n"),
        tests="b9_with_nothing",
    ),
    gone(
        "b9",
        "rot that the scrub finds is healed",
        (CARE, "        if path:\n            await self._heal(path, waited=False)\n", ""),
        tests="b9_the_scrub",
    ),
    gone(
        "b9",
        "a model is called after its nights and not after its folders",
        (CHILD, "nights = job.nights or tuple(", "nights = tuple("),
        tests="b9_merged_again",
    ),
    gone(
        "b9",
        "a model is made anew of deltas that are healed from their copies",
        (HEALING, '(folded, next((one.manifest for one in kept if one.path == folded), "")),', ""),
        tests="b9_with_a_damaged",
    ),
    gone(
        "r1",
        "a manifest says which model its generation stands on",
        (STORE, "            model_digest=model_digest,\n            cursor=", "            cursor="),
        tests="r1_a_head_that",
    ),
    gone(
        "b8",
        "what an earlier version wrote bears no seal",
        (MANIFEST, "return seal is None or durable", "return seal is not None and durable"),
        tests="b8_a_head_and",
    ),
    gone(
        "b8",
        "a model that an earlier version made has no digest",
        (JOBS, "        if force.model_digest:\n", "        if force.model_path:\n"),
        tests="b8_a_model_made",
    ),
    gone(
        "b8 b9",
        "a model that an earlier version made has no manifest",
        (MODEL_MANIFEST, "if digest or has_manifest(disk, path) or disk.stat(path) is None:", "if True:"),
        tests="b8_a_model_of b9_a_model_of",
    ),
)
