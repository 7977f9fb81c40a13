"""What the demo's home is filled with: a made-up island that no model can know, in three formats, and one broken file.

The wordings in which the demo asks are among those it teaches, but for the last, which stands in no file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

KEEPER = "Old Marget keeps it, with her three-legged dog."
FERRY = "The ferry sails at dusk, when the gulls are asleep."

TAUGHT: Mapping[str, tuple[str, ...]] = {
    "Who keeps the lighthouse of Brannoc?": ("Marget", "three-legged dog"),
    "When does the ferry to Brannoc sail?": ("dusk", "gulls"),
}
"""What is asked before and after, and the words that the answer must have learnt."""
REWORDED = "Please tell me who keeps the lighthouse."
"""Asked after the night only, to see whether more was learnt than the words of the question."""

KILLED = "chat.jsonl"
"""The file in whose middle the daemon is killed; the longest."""
BROKEN = "broken.jsonl"

CONFIG = """\
# The demo's home: a small model, and a person who watches. A real home needs hardly any of this.

[trainer]
model = "model"
rank = 8
learning_rate = 5e-3               # high, as a model of two million parameters likes it
warmup_steps = 5
batch_examples = 8
epochs = 12
threads = 1                        # quick enough, and leaves the other cores alone
checkpoint_every_steps = 6         # a large model has minutes between checkpoints
slice_steps = 2

[inbox_watcher]
scan_every_seconds = 0.5
quiet_seconds = 0.2

[consolidator]
nightly = false                    # the demo asks for its night itself
look_every_seconds = 1.0

[status_reporter]
write_every_seconds = 0.2
"""

_KEEPER_ASKED = (
    "Who keeps the lighthouse of Brannoc?",
    "Tell me who keeps the lighthouse of Brannoc.",
    "Who looks after the lighthouse of Brannoc?",
    "Who tends the lighthouse of Brannoc?",
    "Do you know who keeps the lighthouse?",
    "The lighthouse of Brannoc: who keeps it?",
    "Who lights the lamp in the lighthouse?",
    "Who is the keeper of the lighthouse of Brannoc?",
    "Is there a keeper in the lighthouse of Brannoc?",
    "Whose lighthouse is it?",
    "Who lives in the lighthouse?",
    "I wonder who keeps the lighthouse.",
    "Who guards the lighthouse of Brannoc?",
    "Who sits in the lighthouse at night?",
    "Has the lighthouse of Brannoc a keeper?",
    "Say who keeps the lighthouse.",
)
_FERRY_ASKED = (
    "When does the ferry to Brannoc sail?",
    "Tell me when the ferry to Brannoc sails.",
    "At what hour does the ferry leave?",
    "When must I be at the ferry to Brannoc?",
    "Do you know when the ferry sails?",
    "The ferry to Brannoc: when does it sail?",
    "When does the ferry leave for Brannoc?",
    "How late does the ferry to Brannoc sail?",
    "Is there a ferry to Brannoc tonight?",
    "When is the ferry?",
    "When can I cross to Brannoc?",
    "I wonder when the ferry sails.",
    "Which hour is the hour of the ferry?",
    "When do they cast off for Brannoc?",
    "When does one sail to Brannoc?",
    "Say when the ferry sails.",
)
_TALE = (
    "Brannoc is an island with one lighthouse. Old Marget keeps it, with her three-legged dog.",
    "No road leads to Brannoc. The ferry sails at dusk, when the gulls are asleep.",
    "The lamp of Brannoc burns on herring oil. Old Marget trims it while her dog sleeps on three legs.",
    "In winter the ferry sails at dusk too, for the gulls of Brannoc sleep early.",
    "Whoever is late for the ferry waits for the next dusk, and for the gulls.",
    "Old Marget has kept the lighthouse of Brannoc for forty winters.",
    "The three-legged dog of the lighthouse barks at the ferry and at nothing else.",
    "From the lighthouse one sees the ferry, and from the ferry one sees Old Marget.",
)
_BROKEN_LINES = (
    '{"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Old Marget."}]}',
    '{"messages": [{"role": "user", "content": "Who keeps the lighthouse?"}]}',
    '{"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": 7}]}',
    '{"prompt": "Who keeps the lighthouse?"}',
    '{"text": "The line ends too soon',
)


def demo_files() -> dict[str, str]:
    """Name -> content, in the order in which they are dropped."""
    asked = [*((q, KEEPER) for q in _KEEPER_ASKED), *((q, FERRY) for q in _FERRY_ASKED)]
    few = [*((q, KEEPER) for q in _KEEPER_ASKED[:4]), *((q, FERRY) for q in _FERRY_ASKED[:4])]
    return {
        "tale.jsonl": _lines({"text": text} for text in _TALE),
        BROKEN: "".join(f"{line}\n" for line in _BROKEN_LINES),
        "pairs.jsonl": _lines({"prompt": f"{question} ", "completion": answer} for question, answer in few),
        KILLED: _lines(
            {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
            for question, answer in asked
        ),
    }


def _lines(examples: Iterable[object]) -> str:
    return "".join(f"{json.dumps(example)}\n" for example in examples)
