"""How fast a dropped file is checked, beside the bare typed decode of the same lines.

``python -m tools.bench.validation`` writes about 50 MB of chat JSONL to a temporary folder, then times in turn:
reading lines and decoding them into typed structs and nothing else; the same with the look for an assistant's turn;
and the whole inspection with every check, line numbers, digest and duplicates. Prints the medians in MB/s and each
one's ratio to the bare loop.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from actors.validator.inspection import inspect
from actors.validator.settings import ValidatorSettings
from runtime.disk import Disk

RATIO_MIN = 0.8
# A few with quotes, newlines and letters beyond ASCII, as real chats have them.
WORDS = (  # noqa: SIM905 - a list of a hundred literals is no page to read
    "the of and to in is that for it was on are as with they at be this from have or by one had not but what all "
    "were when we there can an your which their said if do will each about how up out them then she many some so "
    'these would other into has more her two like him see time could no make than first been its who now people "so" '
    "café naïve — don\u2019t\n• one\n• two"
).split(" ")


class _Message(msgspec.Struct):
    role: str
    content: str


class _Chat(msgspec.Struct):
    messages: list[_Message]


def write_chats(path: Path, size_bytes: int, *, extras: bool) -> None:
    """Chats of one to three exchanges, about 580 bytes a line; with ``extras``, each has an id of its own too."""
    chance = random.Random(17)  # noqa: S311 - it makes up words, not keys

    def words(least: int, most: int) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(least, most)))

    written = number = 0
    with path.open("wb") as file:
        while written < size_bytes:
            messages = [{"role": "system", "content": "You answer in a few words."}]
            for _ in range(chance.randint(1, 3)):
                messages.append({"role": "user", "content": words(4, 30)})
                messages.append({"role": "assistant", "content": words(8, 60)})
            line = {"messages": messages, "id": number} if extras else {"messages": messages}
            written += file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            number += 1


def bare(path: Path) -> None:
    """Read, decode, forget."""
    decode = msgspec.json.Decoder(_Chat).decode
    with path.open("rb") as file:
        for line in file:
            decode(line)


def bare_with_roles(path: Path) -> None:
    """The same, and an assistant must speak: what the figures in circulation for such a loop do."""
    decode = msgspec.json.Decoder(_Chat).decode
    with path.open("rb") as file:
        for line in file:
            if not any(message.role == "assistant" for message in decode(line).messages):
                raise ValueError("no assistant")


def inspected(path: Path) -> None:
    """All that a dropped file goes through."""
    found = inspect(Disk(path.parent), path.name, ValidatorSettings())
    assert found.error_count == 0


def measure(path: Path, ways: dict[str, Callable[[Path], None]], rounds: int) -> dict[str, float]:
    """Median MB/s of each way; the ways take turns, so that a slow minute of the machine is shared."""
    size = path.stat().st_size
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way(path)
            speeds[name].append(size / 1e6 / (time.perf_counter() - begun))
    return {name: statistics.median(of) for name, of in speeds.items()}


def main() -> int:
    """Print the tables; exit 1 if the inspection is slower than its target on either kind of file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    ways: dict[str, Callable[[Path], None]] = {
        "bare typed loop": bare,
        "bare typed loop, assistant looked for": bare_with_roles,
        "inspect": inspected,
    }
    print(f"target: inspect >= {RATIO_MIN} x the bare typed loop")
    missed = False
    for extras in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "chats.jsonl")
            write_chats(path, given.megabytes * 1_000_000, extras=extras)
            medians = measure(path, ways, given.rounds)
        ratio = medians["inspect"] / medians["bare typed loop"]
        missed = missed or ratio < RATIO_MIN
        what = "chats, each with an id of its own beside the messages" if extras else "chats"
        print(f"{what}: {'missed' if ratio < RATIO_MIN else 'met'}")
        for name, speed in medians.items():
            print(f"  {name:<40} {speed:7.0f} MB/s  x {speed / medians['bare typed loop']:.2f}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
