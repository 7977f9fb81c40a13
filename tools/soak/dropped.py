"""What is dropped: files of every format, good and bad and odd; and the ledger of what must have its outcome.

A dropped thing is known by what it is, not by its name, which the daemon may have to number: a file by its content, a
link by where it points, a folder by what lies in it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

Kind = Literal["good", "mixed", "bad line", "empty", "too long", "link", "folder"]
KINDS: tuple[Kind, ...] = ("good", "mixed", "bad line", "empty", "too long", "link", "folder")
WEIGHTS = (60, 14, 10, 4, 4, 4, 4)
ODD_ENDINGS = (
    " two words",
    "'quoted' \"twice\"",
    "new\nline",
    "$(never run)",
    "ünï-漢字-🌙",
    "\udce9\udcff",
    "-" * 230,
)
NAME_MAX = 243
"""Signs before ``.jsonl``: the longest name cannot have its paper's name behind it."""
BAD_LINES = (b'{"prompt": "no completion"}\n', b"{ not json\n", b"\xff\xfe\n", b"[]\n", b'{"messages": []}\n')
LONG_WORDS = 1500
"""An example of so many words is longer than the tiny model takes; by the soak's config it is left out."""


class Dropped(NamedTuple):
    """One thing for the inbox. ``data`` is the content of a file, the target of a link, a name in a folder."""

    name: str
    kind: Kind
    data: bytes


def generated(rng: Random, number: int) -> Dropped:
    """The next one. No two of one soak have the same content."""
    kind = rng.choices(KINDS, WEIGHTS)[0]
    odd = rng.choice(ODD_ENDINGS) if rng.random() < 0.1 else ""
    name = f"{number:05d} {kind}{odd}"[:NAME_MAX] + ".jsonl"
    if kind in ("link", "folder"):
        return Dropped(name, kind, f"{number:05d}".encode())
    if kind == "empty":
        return Dropped(name, kind, b"\n" * number)
    lines = [
        json.dumps(_example(rng, number, line)).encode() + b"\n"
        for line in range(rng.randint(2, 24 if kind == "mixed" else 8))
    ]
    if kind == "bad line":
        lines.insert(rng.randint(0, len(lines)), rng.choice(BAD_LINES))
    if kind == "too long":
        words = " ".join(str(rng.randrange(10_000)) for _ in range(LONG_WORDS))
        lines = [json.dumps({"prompt": f"{number}", "completion": words}).encode() + b"\n"]
    return Dropped(name, kind, b"".join(lines))


def _example(rng: Random, number: int, line: int) -> dict[str, Any]:
    asked = f"Count {number}.{line}"
    told = " and ".join(str(rng.randrange(1000)) for _ in range(8))
    formats: tuple[dict[str, Any], ...] = (
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]},
        {"prompt": asked, "completion": told},
        {"instruction": asked, "input": "from nought", "output": told},
        {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": told}]},
        {"text": f"{asked}: {told}"},
    )
    return rng.choice(formats)


def token_of(dropped: Dropped) -> str:
    """What it is known by."""
    if dropped.kind in ("link", "folder"):
        return f"{dropped.kind} {dropped.data.decode()}"
    return _token_of_content(dropped.data)


def token_at(path: Path) -> str:
    """What lies there.

    Raises:
        FileNotFoundError: nothing does.
    """
    if path.is_symlink():
        return f"link {path.readlink()}"
    if path.is_dir():
        return f"folder {','.join(sorted(inner.name for inner in path.iterdir()))}"
    return _token_of_content(path.read_bytes())


def _token_of_content(data: bytes) -> str:
    return f"file {hashlib.blake2b(data, digest_size=12).hexdigest()}"


class Ledger:
    """How often each thing must be found at the end, and what it was called when it was last dropped."""

    def __init__(self) -> None:
        self.expected: Counter[str] = Counter()
        self.names: dict[str, str] = {}
        self.dropped = 0
        self.taken_back = 0

    def drop(self, token: str, name: str) -> None:
        """It lies in the inbox."""
        self.dropped += 1
        self.expected[token] += 1
        self.names[token] = name

    def take_back(self, token: str) -> None:
        """A person has it again."""
        self.taken_back += 1
        self.expected[token] -= 1

    def mend(self, was: str, now: str) -> None:
        """A person has changed what it holds."""
        self.expected[was] -= 1
        self.expected[now] += 1
        self.names[now] = self.names.get(was, "")
