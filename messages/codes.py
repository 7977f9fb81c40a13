"""Every code a person can meet, and what ``nightfold explain CODE`` says about it.

Codes are stable: a meaning never changes and a number is never used again.
"""

from __future__ import annotations

import msgspec


class Explanation(msgspec.Struct, frozen=True):
    """What a code means. ``safe`` says what happened to the person's data; ``action`` what to do now."""

    title: str
    meaning: str
    safe: str
    action: str


# Bad data: found before any GPU time is spent. The file goes to rejected/ beside its report.
DATA: dict[str, Explanation] = {
    "NF-DATA-001": Explanation(
        "Lines of the file are not fit to train",
        "Each line must be one JSON object in one of the formats: messages, prompt and completion, instruction and "
        "output, conversations, or text. The report names line, path, what was expected and what stands there.",
        "Nothing was learnt from the file. It lies whole in rejected/, beside its report.",
        "Mend the lines that are named (`nightfold check FILE` shows them again) and `nightfold retry HOME NAME`; or "
        'set [validator] bad_lines = "train_good_lines" to train the others.',
    ),
    "NF-DATA-002": Explanation(
        "The file holds no example",
        "It is empty, or has nothing but blank lines.",
        "Nothing was learnt from it. It lies in rejected/, beside its report.",
        "See whether whatever wrote it was finished, and drop it again.",
    ),
    "NF-DATA-004": Explanation(
        "Not a regular file",
        "Only files are read: a link, folder, pipe, socket or device is not, and nothing follows where it points.",
        "What it points to was neither read nor touched.",
        "Drop the file itself: `nightfold submit HOME FILE` copies it.",
    ),
    "NF-DATA-005": Explanation(
        "The same content was trained before",
        'The file has the same bytes as one that was trained, and [validator] same_content is "skip".',
        "The model has learnt it already. This copy lies in rejected/, beside its report.",
        'To train it once more, set [validator] same_content = "train" and `nightfold retry HOME NAME`.',
    ),
    "NF-DATA-006": Explanation(
        "The file cannot be read",
        "The system refused to open or read it: permissions, a damaged disk, or a file system that went away.",
        "The file was not changed and nothing was learnt from it.",
        "Look at the reason given; mend the permissions or the disk, then try the file again.",
    ),
    "NF-DATA-007": Explanation(
        "The examples cannot be shown as this model sees them",
        "`nightfold check --model DIR` needs a folder with a fast tokenizer (tokenizer.json); this one has none or a "
        "damaged one.",
        "Nothing was changed.",
        "Check the path, or leave --model away to check the lines alone.",
    ),
}

# Config, command line and home.
CONF: dict[str, Explanation] = {
    "NF-CONF-001": Explanation(
        "The config is not right",
        "nightfold.toml is not TOML, or has a key or section that nobody knows, or a value of the wrong type or out of "
        "its range. Every finding is listed at once, with its line.",
        "Nothing was started and nothing was changed.",
        "Mend the lines that are named and start again; `nightfold doctor HOME` checks the file without starting.",
    ),
    "NF-CONF-002": Explanation(
        "This folder is not a home",
        "A home is a folder with a nightfold.toml in it. This one has none, or does not exist.",
        "Nothing was changed.",
        "Check the path you typed, or make a home there: nightfold init HOME --model PATH-OR-ID (or --tiny).",
    ),
    "NF-CONF-003": Explanation(
        "The file cannot be submitted",
        "Only regular files named *.jsonl that you may read are taken, none whose name begins with a dot.",
        "The file was not touched and none of the files named beside it was copied.",
        "Check the path, or give the file a name like data.jsonl; `nightfold check FILE` tells if its lines are right.",
    ),
    "NF-CONF-004": Explanation(
        "No such file to try again",
        "retry takes the names of files that lie in failed/ or rejected/. There is none of that name, or two, "
        "or one of that name waits in the inbox already.",
        "Every file is where it was.",
        "Look into failed/ and rejected/, name the file as it is called there, or as failed/NAME to say which.",
    ),
    "NF-CONF-005": Explanation(
        "No daemon is running on this home",
        "What you asked for is done by the daemon, and none lives on this home.",
        "Nothing was changed.",
        "Start it with `nightfold run HOME` and ask again.",
    ),
    "NF-CONF-006": Explanation(
        "The home cannot be locked",
        "The daemon holds a lock on state/LOCK so that there is never a second one. The file system refused it: no "
        "permission, read-only, or without flock.",
        "Nothing was started and nothing was changed.",
        "Give yourself write permission, or move the home to a local file system.",
    ),
    "NF-CONF-007": Explanation(
        "No such code",
        "explain knows the codes that Nightfold prints, like NF-DATA-001.",
        "Nothing was changed.",
        "`nightfold explain` without a code lists them all.",
    ),
    "NF-CONF-008": Explanation(
        "The daemon has not done it yet",
        "The wish was put down for the daemon, but it did not take effect while the command waited, or the daemon "
        "ended. A step in hand is always finished first, and a long one takes its time.",
        "Nothing is lost; the wish stays in force and is followed as soon as the daemon looks.",
        "Look at `nightfold status HOME`, or wait longer with --wait SECONDS.",
    ),
    "NF-CONF-009": Explanation(
        "The model in force cannot be found",
        "generate reads state/HEAD and loads the model and the adapter that it names. HEAD cannot be read, or a folder "
        "that it names is not there.",
        "Nothing was changed; generate only reads.",
        "Run `nightfold doctor HOME`; the daemon repairs what can be repaired when it starts.",
    ),
    "NF-CONF-010": Explanation(
        "The file could not be put into the inbox",
        "Copying stopped at an error of the file system: no space, no permission, or no such folder.",
        "Your file is untouched, and no part of it was left in the inbox.",
        "Make room or mend the permission, then submit it again.",
    ),
    "NF-CONF-011": Explanation(
        "The trace does not hold it",
        "trace reads what the daemon recorded under status/trace/, which is bounded: the oldest is let go. There "
        "is no record of what you named, or no trace at all.",
        "Nothing was changed; trace only reads.",
        "Check the name. To keep more, raise [status_reporter] trace_files; without trace_on_disk there is none.",
    ),
    "NF-CONF-012": Explanation(
        "The home cannot be made as asked",
        "init makes a home in a folder that is none yet, and needs to know which model it begins with.",
        "Nothing was changed.",
        "Choose another folder, and give either --tiny or --model with a folder or a hub id.",
    ),
    "NF-CONF-013": Explanation(
        "The home cannot take over an older trainer's learning",
        "import makes a home where none is, or fills one that has learnt nothing and whose [trainer] model is the base "
        "of the old adapter. It never mixes two adapters and never writes into the old home.",
        "Nothing was changed.",
        "Name a folder that does not exist yet; or mend what the message names in the home's nightfold.toml.",
    ),
    "NF-CONF-014": Explanation(
        "Not enough space to move in",
        "What will be written was added up beforehand: the model if it lies in the old home, the adapter with its "
        "moments, each snapshot, and the reserve ([disk_guard] free_bytes_min) without which nothing could be trained.",
        "Nothing was written.",
        "Make room, or name a folder on another disk.",
    ),
}

# Disk space and I/O.
DISK: dict[str, Explanation] = {
    "NF-DISK-001": Explanation(
        "The disk is full",
        "What is to be committed or merged does not fit, or would leave less than [disk_guard] free_bytes_min. "
        "While it is that full, the reserve (state/RESERVE) is given back, so that status and HEAD can be written.",
        "The last committed generation is in force and whole; what was learnt since is held in memory and "
        "training waits.",
        "Free some space: the daemon goes on by itself. Keep fewer generations, snapshots or nights if it happens "
        "often.",
    ),
    "NF-DISK-002": Explanation(
        "The home cannot be written",
        "Its file system is read-only, or was unmounted or removed while the daemon ran.",
        "Nothing was lost: what was committed is on that disk, and no dropped file was touched.",
        "See that the file system is mounted and writable, then start the daemon again.",
    ),
    "NF-DISK-003": Explanation(
        "The disk refused",
        "Reading or writing failed for another reason than space; the system's own words are given.",
        "The last committed generation is in force. The daemon tries again by itself.",
        "Look at the reason given, the system's log and the health of the disk; `nightfold doctor HOME` checks "
        "every file.",
    ),
}

# The base model and its tokenizer.
MODEL: dict[str, Explanation] = {
    "NF-MODEL-001": Explanation(
        "The base model is not there",
        "[trainer] model names neither a folder with a config.json (in the home or absolute) nor a hub id.",
        "Nothing was trained or changed; dropped files stay where they are.",
        "Correct [trainer] model in nightfold.toml, or put the model back where it was.",
    ),
    "NF-MODEL-002": Explanation(
        "The hub does not give the model",
        "The model is not complete in this machine's cache, and fetching it failed: no network, no such id, no leave.",
        "Nothing was trained or changed.",
        "Check the id and the network, log in to the hub if the model asks for it, or give a local folder.",
    ),
    "NF-MODEL-003": Explanation(
        "The base model is damaged or incomplete",
        "Its config or weights cannot be read, tensors are missing, or the transformers here does not know its kind.",
        "Nothing was trained or changed. The model's folder is only ever read.",
        "Fetch or copy the model again; if its kind is new, install a newer transformers.",
    ),
    "NF-MODEL-004": Explanation(
        "The weights are not in safetensors",
        "The folder has a config but no *.safetensors. Pickled weights can run code when opened, so they are not.",
        "Nothing was trained or changed.",
        "Save the model with save_pretrained (which writes safetensors) and name that folder.",
    ),
    "NF-MODEL-005": Explanation(
        "The tokenizer cannot be used",
        "There is no tokenizer beside the model, or none that tells where in a text its tokens stand (tokenizer.json).",
        "Nothing was trained or changed.",
        "Put the model's own tokenizer files, tokenizer.json among them, beside its weights.",
    ),
    "NF-MODEL-006": Explanation(
        "The device is not there",
        "[trainer] device names one that this machine, or this build of torch, does not have.",
        "Nothing was trained or changed.",
        'Set device = "auto", or install the torch that fits the device and its driver.',
    ),
    "NF-MODEL-007": Explanation(
        "The adapter does not fit the model",
        "[trainer] targets names no module of the model that LoRA can be put on, or names the embeddings or the head.",
        "Nothing was trained or changed.",
        'Set targets = "all-linear", or name modules that the model has.',
    ),
    "NF-MODEL-008": Explanation(
        "The generation does not fit the model",
        "A file of the adapter, optimizer or generators is damaged, or its tensors are not those that the model needs.",
        "Nothing was loaded in part, and no generation was changed.",
        "Put the base model back that the home began with; nightfold doctor tells which generations are sound.",
    ),
    "NF-MODEL-010": Explanation(
        "This is another base model",
        "The base model is not the one this home began with: its fingerprint differs. Adapters and nights only "
        "fit their own.",
        "Nothing was trained and nothing was changed.",
        "Put the first model back where [trainer] model points, or make a new home for the other one.",
    ),
}

# Training.
TRAIN: dict[str, Explanation] = {
    "NF-TRAIN-001": Explanation(
        "The batch's file is gone",
        "A claimed file was removed from state/batches/ before it was trained.",
        "The weights are those of the last commit.",
        "Drop the file into the inbox again. Files under state/ are best left alone.",
    ),
    "NF-TRAIN-002": Explanation(
        "Nothing in the file can be trained",
        "Every line was left out: the model's chat template refuses it, or no turn of the assistant is to be trained.",
        "The weights are those before this file. It is kept in failed/ beside its report.",
        "See with nightfold check --model what the template makes of a line; mend the lines, then nightfold retry.",
    ),
    "NF-TRAIN-003": Explanation(
        "The batch would be cut into other steps than when it was interrupted",
        "A setting that forms the steps (batch_tokens, batch_examples, max_length, over_long) or the tokenizer changed "
        "in the middle of a file, so its place in it means nothing any more.",
        "The weights are those of the last commit: the file was learnt up to the step named.",
        "Put the setting back until this file is done, or nightfold retry it to train it from its beginning.",
    ),
    "NF-TRAIN-004": Explanation(
        "Out of memory",
        "The model, or one single example, does not fit into the device's memory, however small the pieces.",
        "The weights are those of the last commit; nothing half-trained is kept.",
        "Set a smaller max_length or rank, gradient_checkpointing = true, or end what else uses the device.",
    ),
    "NF-TRAIN-005": Explanation(
        "A number in the weights is not finite",
        "NaN or Inf was found in the adapter or the optimizer when it was about to be saved. It is never saved.",
        "The weights are those of the last commit.",
        "Use a smaller learning_rate; look into the file for extreme or broken text.",
    ),
    "NF-TRAIN-010": Explanation(
        "The loss is not finite",
        "Several steps in a row gave NaN or Inf, so the batch was given up.",
        "The weights are those of the last good generation; the file lies in failed/ beside its report.",
        "Look at the file for broken or extreme examples. If others fail too, lower [trainer] learning_rate, then "
        "retry.",
    ),
    "NF-TRAIN-011": Explanation(
        "The device failed",
        "The GPU or its driver reported an error in the middle of a step; max_attempts tries did not get past it.",
        "The weights are those of the last commit.",
        "Look into the system's log for the driver's words; if it happens again, restart the machine.",
    ),
}

# Nights: merging and verifying.
MERGE: dict[str, Explanation] = {
    "NF-MERGE-001": Explanation(
        "The merge took too long",
        "Merging and verifying did not end within the time allowed, so the process was stopped.",
        "Yesterday's model stays in force; the adapter is kept and goes on learning. The half-written model is gone.",
        "Raise the time-out in the consolidator's section, or find out what slows the disk (`nightfold doctor`).",
    ),
    "NF-MERGE-002": Explanation(
        "The merging process died",
        "The child process that merges ended without an outcome: killed from outside, out of memory, or a bug.",
        "Yesterday's model stays in force; the adapter is kept. The half-written model is gone.",
        "Look at the reason given. After SIGKILL, see whether memory ran out; verifying loads the model once.",
    ),
    "NF-MERGE-003": Explanation(
        "The disk is full",
        "The merged model did not fit; it takes as much space as the base model.",
        "Nothing was changed; the half-written model is gone.",
        "Free some space, or keep fewer merged models.",
    ),
    "NF-MERGE-004": Explanation(
        "The disk refused during a merge",
        "Reading or writing failed for another reason than space.",
        "Nothing was changed; the half-written model is gone.",
        "Look at the reason given; check rights and the health of the disk.",
    ),
    "NF-MERGE-005": Explanation(
        "Not enough memory to merge",
        "Merging itself needs little memory, but verifying loads the model once, on the CPU.",
        "Nothing was changed; the half-written model is gone.",
        "Free memory, or give the machine more.",
    ),
    "NF-MERGE-010": Explanation(
        "The base model has no safetensors",
        "The folder holds no model.safetensors, no index of one, or no config.json. Pickled weights are never opened.",
        "Nothing was written.",
        "Convert the model to safetensors (load it and call save_pretrained), then name that folder.",
    ),
    "NF-MERGE-011": Explanation(
        "The base model is quantised",
        "A delta cannot be added to quantised weights without changing them in ways nobody trained for.",
        "Nothing was written.",
        "Merge into the unquantised model, and quantise the result if need be.",
    ),
    "NF-MERGE-012": Explanation(
        "The base model is damaged",
        "A weight file is cut short, or it disagrees with its header or with the index.",
        "Nothing was written and the base was not touched.",
        "Fetch the model again, or copy it anew from where it is sound.",
    ),
    "NF-MERGE-013": Explanation(
        "The folder for the merged model exists already",
        "A merge writes a new folder and never into one that is there.",
        "What is there was not touched.",
        "Name a folder that does not exist, or move the one that does.",
    ),
    "NF-MERGE-014": Explanation(
        "Another merge is writing there",
        "A living process holds the place where this merge would be prepared.",
        "Nothing was touched.",
        "Wait for the other merge, or name another folder.",
    ),
    "NF-MERGE-015": Explanation(
        "A folder named for the merge is not there",
        "The base, an adapter, or the folder the result is to stand in is missing or is no folder.",
        "Nothing was written.",
        "Check the paths.",
    ),
    "NF-MERGE-020": Explanation(
        "The adapter is not plain LoRA",
        "DoRA, trained biases, whole modules, embeddings, heads and other kinds cannot be folded in exactly.",
        "Nothing was written; the adapter is as it was.",
        "Merge it with the library that trained it, or train plain LoRA on the linear layers.",
    ),
    "NF-MERGE-021": Explanation(
        "Adapter and base do not belong together",
        "Each tensor of the adapter must match exactly one weight of the base, by name and by shape.",
        "Nothing was written.",
        "Name the base model this adapter was trained on (base_model_name_or_path in its adapter_config.json).",
    ),
    "NF-MERGE-022": Explanation(
        "The adapter is damaged or incomplete",
        "Its config or its weights are missing, cut short, or disagree with each other.",
        "Nothing was written.",
        "Use an earlier copy of the adapter; in a home, `nightfold doctor` says which generations are sound.",
    ),
    "NF-MERGE-023": Explanation(
        "NaN or Inf in a merge",
        "An adapter, or its sum with the base, holds a number that is not finite.",
        "Yesterday's model stays in force; the half-written model is gone.",
        "Roll back to a generation before the damage (`nightfold history`, `nightfold rollback`).",
    ),
    "NF-MERGE-030": Explanation(
        "The merged tensors are not what they should be",
        "What was read back differs from base + deltas: a failing disk or memory, or a file changed meanwhile.",
        "The model was refused and removed; yesterday's stays in force.",
        "Try again; if it happens again, test memory and disk before you trust this machine.",
    ),
    "NF-MERGE-031": Explanation(
        "The merged model does not answer as base + adapter",
        "Loaded with plain transformers, the merged model gave other logits than the base with the adapter on it.",
        "The model was refused and removed; yesterday's stays in force and the adapter is kept.",
        "See whether transformers or peft changed since the adapter began; report it with the versions.",
    ),
    "NF-MERGE-032": Explanation(
        "The merged model is worse on held-out text",
        "On examples that were never trained its loss is higher than that of base and adapter, by more than "
        "[consolidator] held_out_tolerance. Both figures are told. Its tensors are right, so it is the rounding: what "
        "was learnt is still too small for the numbers of the model to hold.",
        "The model was refused and removed; yesterday's stays in force, and the adapter is kept and goes on learning.",
        "Usually nothing: it is tried again, and passes once more is learnt. If it never does, allow more with "
        "held_out_tolerance, or begin a home on a base in float32.",
    ),
    "NF-MERGE-040": Explanation(
        "There is nothing to fold in",
        "A night was asked for, but nothing was learnt since the last one, or what is committed is not what the "
        "Trainer holds.",
        "Nothing was changed.",
        "Train something first; a night that is due by itself waits for that without being asked.",
    ),
    "NF-MERGE-041": Explanation(
        "The fresh adapter could not begin",
        "The merged model was made and proven, but the Trainer could not load it or put a fresh adapter on it.",
        "Yesterday's model stays in force with its adapter; the merged model is removed later.",
        "Look at the reason given (memory?); the night is tried again by itself, or with `nightfold consolidate HOME`.",
    ),
    "NF-MERGE-042": Explanation(
        "The night could not be committed",
        "The merged model and the fresh adapter were ready, but the Checkpointer could not put them in force, or "
        "did not answer.",
        "HEAD alone says what is in force, and the Trainer loads what it says; nothing was learnt in between.",
        "Look at the reason given; `nightfold history HOME` tells whether the night is in the ledger after all.",
    ),
    "NF-MERGE-043": Explanation(
        "A delta is damaged and has no other copy",
        "Every night is folded anew from the pristine base and the adapters of all nights before. One of these, in "
        "state/deltas/, differs from its manifest, and no kept generation or snapshot holds the same adapter.",
        "The merged model in force is whole and the adapter goes on learning; only no further night can be folded.",
        "Restore the folder named from a backup of state/deltas/; the night is then made by itself, or at once with "
        "`nightfold consolidate HOME`.",
    ),
    "NF-MERGE-050": Explanation(
        "A damaged model could not be made again",
        "A merged model was found damaged and merged anew from the pristine base and its deltas, and that gave other "
        "bytes than were committed: the base or a delta is damaged or exchanged, or other libraries round otherwise.",
        "What was merged anew was removed. If the model was in force, the newest sound generation on another model is "
        "in force now; generations that stand on the damaged one stay kept.",
        "Restore the model's folder, the base or the delta from a backup, or install the versions that the model's "
        "MANIFEST.json names; then `nightfold rollback HOME GENERATION` goes back to what stood on it.",
    ),
    "NF-MERGE-051": Explanation(
        "The model in force is damaged, and nothing else can take its place",
        "The merged model that everything kept stands on is damaged, cannot be made again from base and deltas, and no "
        "kept generation stands on anything else.",
        "Nothing was deleted and nothing was trained on it; dropped files wait.",
        "Restore the model's folder, the base or state/deltas/ from a backup, and start again. `nightfold doctor HOME` "
        "says which of them are damaged.",
    ),
}

# What lies under state/.
STATE: dict[str, Explanation] = {
    "NF-STATE-001": Explanation(
        "Another daemon lives on this home",
        "A home belongs to one daemon at a time, and the kernel says that the one named is alive and holds the lock.",
        "Nothing was started and nothing was changed.",
        "Stop it with `nightfold stop HOME`, or use another home. A lock left by a dead process never causes this.",
    ),
    "NF-STATE-002": Explanation(
        "No sound state is left",
        "Neither HEAD nor any generation or snapshot agrees with its manifest. Each finding is listed.",
        "Nothing was deleted, and no dropped file was touched.",
        "Restore state/ or snapshots/ from a backup. To begin anew instead, make a new home with the same base and "
        "submit the files in trained/ to it.",
    ),
    "NF-STATE-003": Explanation(
        "No such generation, night or snapshot is kept",
        "rollback and --pin name a generation, night or snapshot that is still kept, whose files are sound and whose "
        "merged model is there. This one is not.",
        "Nothing was changed: what was in force still is.",
        "`nightfold history HOME` lists what is kept, and `--pin` keeps it. [checkpointer] bounds everything else.",
    ),
    "NF-STATE-004": Explanation(
        "A newer version wrote this",
        "What lies under state/ has a schema number above those that this version can read.",
        "Nothing was changed: a version that does not understand a file does not touch it.",
        "Install the version that wrote it, or a newer one.",
    ),
    "NF-STATE-005": Explanation(
        "A snapshot is gone",
        "What was to be committed is no longer in memory, because the part that held it was restarted meanwhile.",
        "The generation before is in force; what was learnt since is learnt again from there.",
        "Nothing: the daemon goes on by itself. If it happens often, look at why parts crash (`nightfold status "
        "HOME`).",
    ),
    "NF-STATE-006": Explanation(
        "Damage was found",
        "A file under state/ or snapshots/ differs from its manifest: a failing disk, or somebody changed it.",
        "The damaged folder was set aside, and what stands in its place is told. If it was in force while nobody had "
        "it in memory, the newest sound generation is in force, and what came after it is learnt again.",
        "Test disk and memory. `nightfold doctor HOME --deep` reads every file; what was set aside lies in "
        "state/set_aside/.",
    ),
    # Moving in from an older trainer.
    "NF-STATE-010": Explanation(
        "The old home cannot be taken over as it is",
        "import checks everything before it writes anything. Each thing in the way is listed with its own code, "
        "its place, what was expected and what to do.",
        "Nothing was written, and the old home was only read.",
        "Mend what is listed, in a copy of the old home if you like, and import again.",
    ),
    "NF-STATE-011": Explanation(
        "This is not the home of an older trainer, or not a whole one",
        "import expects current_model/ with an adapter in it and, beside it, config.json; and nobody who writes there "
        "meanwhile.",
        "Nothing was written, and the old home was only read.",
        "Name the folder that holds current_model/, stop the old trainer, and restore what is missing.",
    ),
    "NF-STATE-012": Explanation(
        "The old adapter cannot be taken over",
        "Its config or weights are missing or damaged, it is not plain LoRA, or its matrices do not fit the base.",
        "Nothing was written, and nothing was loaded in part.",
        "Restore the files (the snapshots hold earlier ones), or name the model it was trained on with --base DIR.",
    ),
    "NF-STATE-013": Explanation(
        "The old optimizer cannot be taken over",
        "Its moments are missing, damaged, of another kind, or not one to one with the adapter's matrices; or the file "
        "holds more than tensors and plain values and was therefore not opened. They are taken whole or not at all.",
        "Nothing was written, and nothing in the file was run.",
        "Restore optimizer.pt, or begin with fresh moments: import with --fresh-optimizer. The weights are not touched "
        "by that; the first steps are less sure of their direction.",
    ),
    "NF-STATE-014": Explanation(
        "The old counters cannot be taken over",
        "trainer_state.json is missing or damaged, or its global_step and adapter_step cannot be counts of steps.",
        "Nothing was written.",
        "Restore trainer_state.json, or write the right counts into a copy.",
    ),
    "NF-STATE-015": Explanation(
        "The base of the old adapter is not there",
        "An adapter is of use only on the very model it was trained on: the newest consolidated model or, if there is "
        "none, model_path of the old config. That one is missing, damaged, or not in safetensors.",
        "Nothing was written.",
        "Restore it, or name the right model with --base DIR.",
    ),
    "NF-STATE-016": Explanation(
        "The old adapter is in its base already",
        "The newest consolidated model was made from this very adapter, and no fresh one was begun: the old trainer "
        "was stopped in between. On top of it the adapter would count twice.",
        "Nothing was written.",
        "Name the model before it with --base DIR: base and adapter then say what the consolidated model says.",
    ),
}

# The actor runtime and its plug-ins.
RUN: dict[str, Explanation] = {
    "NF-RUN-001": Explanation(
        "A plug-in cannot be loaded",
        "[plugins.NAME] actor names a file, a module, a class or an entry point that is not there, that raises when it "
        "is loaded, or that is no Actor.",
        "Nothing was started and nothing was changed.",
        "Put the file into the home's plugins/, or install the plug-in's package into the environment that runs "
        "nightfold; check the spelling; or take its section out of the config.",
    ),
    "NF-RUN-002": Explanation(
        "A plug-in is written in a way that cannot work",
        "One of its handlers is not 'async def', takes no annotated message, handles a type twice, asks for control "
        "messages, or does not return what the question it answers asks for; or it says something that nobody hears, "
        "or answers what another part answers already.",
        "Nothing was started and nothing was changed.",
        "Whoever wrote the plug-in must mend the line that is named; until then take its section out of the config.",
    ),
    "NF-RUN-003": Explanation(
        "The daemon gave up",
        "One part crashed more often within a few minutes than restarts are allowed for. The message names it, what it "
        "was doing, the error and the chain of messages that led there; the log holds the traceback.",
        "Everything committed is on disk; what was in hand since the last commit is done again at the next start.",
        "Start it again, a passing cause may be gone; if it gives up again, mend the cause that is named.",
    ),
    "NF-RUN-004": Explanation(
        "Something stands still",
        "A handler, the training thread or the event loop has made no progress for minutes. What it was doing is "
        "named.",
        "What was committed is safe; nothing is lost by stopping the daemon.",
        "Wait if one step may really take that long. Else look at `nightfold ps HOME`, stop the daemon and start "
        "it again.",
    ),
    "NF-RUN-005": Explanation(
        "A part of the daemon crashed and was restarted",
        "One actor met an error it does not handle. A fresh instance took over its mailbox and starts from what "
        "is on disk.",
        "What was committed is safe; what the actor had in hand is handled again or set aside as a dead letter.",
        "Nothing, if it stays at one. Else `nightfold trace HOME replay ACTOR` repeats it without touching anything.",
    ),
    "NF-RUN-006": Explanation(
        "A plug-in was switched off",
        "It kept crashing, it held everybody up again and again, or it met something that only a person can mend. The "
        "reason is given. All else goes on without it.",
        "Everything is safe: a plug-in takes no part in learning.",
        "Mend the plug-in or its section, then stop the daemon and start it again. `nightfold trace HOME replay "
        "plugins.NAME` repeats what it did.",
    ),
    "NF-RUN-010": Explanation(
        "A file makes its reader crash",
        "The Validator crashed over this file each time it was tried: a fault of ours, which this file has found.",
        "Nothing was learnt from it. It lies in failed/ beside its report, and the queue goes on.",
        "Report it with the file, if you may share it. Splitting the file shows which line it is.",
    ),
    "NF-RUN-011": Explanation(
        "The daemon does not answer on its control socket",
        "A daemon lives on this home, and nobody answers on HOME/.control: it is busy starting, it is another version, "
        "too many look into it already, or its file system has no sockets (then it said so when it started).",
        "Nothing was changed, and the daemon goes on.",
        "Try again in a moment. `nightfold ps`, `trace` and `history` show what is on disk meanwhile.",
    ),
}

# The plug-ins that come with the house.
PLUGIN: dict[str, Explanation] = {
    "NF-PLUGIN-001": Explanation(
        "A package that a plug-in needs is not installed",
        "The plug-in's package is an extra of its own, so that nobody installs it who does not use it.",
        "Everything is safe; only this plug-in is off.",
        "Install the extra that is named, for instance: pip install 'nightfold[notify]'. Then start the daemon again.",
    ),
    "NF-PLUGIN-002": Explanation(
        "A notification address cannot be used",
        "The notifier was given no address, or one of a kind that apprise does not know.",
        "Everything is safe; only the notifier is off.",
        "Correct urls in its section, or the environment variable that urls_env names. apprise lists what it knows.",
    ),
    "NF-PLUGIN-003": Explanation(
        "Notifications do not arrive",
        "A notification service could not be reached, or refused. What is to be said waits, in order, and is tried "
        "again.",
        "Everything is safe; nothing that waits is lost by a restart.",
        "Check the network and the address. What waits is sent when the service answers again.",
    ),
    "NF-PLUGIN-010": Explanation(
        "The inference server cannot be reached",
        "The newest adapter could not be handed to the vLLM server that the section names: it does not answer.",
        "Everything is safe: learning does not depend on who serves it.",
        "Start the server, or correct url. It is tried again by itself.",
    ),
    "NF-PLUGIN-011": Explanation(
        "The inference server does not take adapters",
        "The server answers, but it was started without loading of adapters at run time.",
        "Everything is safe: learning does not depend on who serves it.",
        "Start it with --enable-lora --max-lora-rank R and the environment VLLM_ALLOW_RUNTIME_LORA_UPDATING=1.",
    ),
    "NF-PLUGIN-012": Explanation(
        "The adapter does not fit the model that is served",
        "An adapter fits only the base it grew on, and a night makes a new base. The server still serves another, so "
        "the adapter was not loaded.",
        "Everything is safe; the server goes on with what it had.",
        "Start the server anew with the model that is named. The adapter is handed over by itself then.",
    ),
    "NF-PLUGIN-013": Explanation(
        "The inference server refused the adapter",
        "The server answered with an error, or took the adapter and then did not answer with it. Its words are given.",
        "Everything is safe; the adapter that was served before still is.",
        "Often the rank is larger than the server's --max-lora-rank, or it cannot read the folder: see server_folder.",
    ),
    "NF-PLUGIN-014": Explanation(
        "The key of the inference server is not there",
        "The section names an environment variable that holds the server's key, and it is not set or holds none.",
        "Everything is safe; only this plug-in is off.",
        "Set the variable where the daemon is started, then start it again.",
    ),
}

CODES: dict[str, Explanation] = {**DATA, **CONF, **DISK, **MODEL, **TRAIN, **MERGE, **STATE, **RUN, **PLUGIN}
