"""What the script puts into its home: the config and the files, the same in every run."""

from __future__ import annotations

import json

FIRST = ("1-good.jsonl", "2-bad.jsonl", "3-good.jsonl")
LAST = "4-good.jsonl"
PLACES = {FIRST[0]: "trained", FIRST[1]: "rejected", FIRST[2]: "trained", LAST: "trained"}
PAPERS = {"trained": "receipt", "rejected": "report"}

# A checkpoint in the middle of each file and one at its end; waits as short as the settings allow. One file is claimed
# at a time, and there are as many slices as checkpoints, so that all processes do the same in the same order.
CONFIG = """\
[trainer]
model = "{model}"
rank = 2
learning_rate = 5e-3
warmup_steps = 3
epochs = 1
threads = 1
batch_examples = 2
dropout = 0.1
held_out_share = 0.2
held_out_examples_min = 10
checkpoint_every_seconds = 0
checkpoint_every_steps = 2
slice_seconds = 60
look_again_seconds = 1
retry_seconds = 0.1
[inbox_watcher]
scan_every_seconds = 0.1
quiet_seconds = 0
claims_max = 1
[checkpointer]
keep_generations = 2
reserve_bytes = 4096
retry_deletes_every_seconds = 1
[consolidator]
nightly = false
[disk_guard]
free_bytes_min = 0
measure_every_seconds = 1
[status_reporter]
write_every_seconds = 0.1
heartbeat_every_seconds = 1
trace_on_disk = false
"""


def names() -> tuple[str, ...]:
    """Every file name of the script that is hashed into a hidden one."""
    return (*PLACES, *(f"{name}.{PAPERS[folder]}.json" for name, folder in PLACES.items()))


def content(name: str) -> bytes:
    """What is dropped under this name."""
    number = int(name[0])
    lines = [
        {
            "prompt": f"Count {number}.{line}",
            "completion": " and ".join(str((number * 7919 + line * 31 + k) % 997) for k in range(8)),
        }
        for line in range(10)  # eight of them are learnt, two held out
    ]
    if "bad" in name:
        lines[3] = {"prompt": "no completion"}
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
