"""A learner whose weights are a hash chain over the examples it trained: order and exactly-once can be read off them.

It stands behind the same protocol as the torch engine. ``replay`` computes, from files alone, which chain a history
must have led to; the checkers compare.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from actors.trainer.engine import BatchPlan, EngineError, EngineInfo, Step
from actors.trainer.held_out import KeptSample, choose, read_kept_sample, wanted, window_of
from actors.trainer.order import permutation
from messages import Cursor, LearningState
from messages.held_out import HELD_OUT, HeldOutWindow
from runtime.disk import Buffer, DiskPort

EXAMPLES_A_STEP = 4
EPOCHS = 2
HELD_OUT_SHARE = 0.1
HELD_OUT_EXAMPLES_MIN = 20
POISON = b"poison"
"""An example with this in it makes the engine fail for good at its step."""
NOT_FINITE = b"not-finite"
"""One with this makes its step a skipped one."""

PRISTINE = "model/weights"
WEIGHTS = "weights"
ADAPTER = "adapter_model.safetensors"
OPTIMIZER = "optimizer.safetensors"
CONFIG = "adapter_config.json"


class Weights(msgspec.Struct, frozen=True):
    """What the adapter file holds: the chain, the base it stands on, and the steps taken."""

    chain: str
    base: str
    steps: int


def link(chain: str, data: bytes | str) -> str:
    """The next value of a chain."""
    raw = data.encode() if isinstance(data, str) else data
    return hashlib.blake2b(chain.encode() + b"\0" + raw, digest_size=16).hexdigest()


def fresh(base: str, adapter_id: str, seed: int) -> str:
    """The chain a fresh adapter begins with."""
    return link(base, f"{adapter_id}/{seed}")


def merged(pristine: str, chains: list[str]) -> str:
    """The merged model's content: the pristine base and every delta in order."""
    whole = pristine
    for chain in chains:
        whole = link(whole, chain)
    return whole


def held_out_count(lines: list[bytes]) -> int:
    """How many examples of a new batch are held out."""
    return wanted(len(lines), HELD_OUT_SHARE, HELD_OUT_EXAMPLES_MIN)


def held_out_of(lines: list[bytes], seed: int, digest: str, count: int) -> list[int]:
    """Which examples of a batch are in no step."""
    return choose(seed, digest, [1] * len(lines), count)


def windows_of(lines: list[bytes], held_out: list[int]) -> list[HeldOutWindow]:
    """What is kept of them: each byte is a token."""
    return [window_of(lines[number], b"\1" * len(lines[number])) for number in held_out]


def steps_of(lines: list[bytes], seed: int, digest: str, held_out: int | None = None) -> list[list[bytes]]:
    """The examples of each step of a batch, in the order in which they are trained; ``None`` for a new batch."""
    count = held_out_count(lines) if held_out is None else held_out
    measured = held_out_of(lines, seed, digest, count)
    found: list[list[bytes]] = []
    for epoch in range(EPOCHS):
        order = [number for number in permutation(seed, digest, epoch, len(lines)) if number not in measured]
        found += [
            [lines[index] for index in order[at : at + EXAMPLES_A_STEP]] for at in range(0, len(order), EXAMPLES_A_STEP)
        ]
    return found


def train(chain: str, examples: list[bytes]) -> str:
    """The chain after one step."""
    for example in examples:
        chain = link(chain, example)
    return chain


def lines_of_file(data: bytes) -> list[bytes]:
    """The examples in a batch file."""
    return [line for line in data.split(b"\n") if line.strip()]


class Turn(Protocol):
    """Who looks that only one engine learns at a time."""

    def enter(self) -> int:
        """A new engine; returns its number."""

    def loads(self, engine: int) -> None:
        """It holds weights now."""

    def learns(self, engine: int) -> None:
        """It takes a step."""

    def holds(self, weights: Weights | None) -> None:
        """What is in it; ``None`` once it has stumbled and must be loaded anew."""


class HashChainEngine:
    """``Engine`` without arithmetic.

    ``trouble`` is asked at each step and may name a transient failure; ``turn`` is told who learns.
    """

    def __init__(
        self, disk: DiskPort, chance: random.Random, trouble: Callable[[], bool], turn: Turn | None = None
    ) -> None:
        self._turn = turn
        self._number = turn.enter() if turn is not None else 0
        self._disk = disk
        self._chance = chance
        self._trouble = trouble
        self._weights = Weights("", "", 0)
        self._seed = 0
        self._steps: list[list[bytes]] = []
        self._next = 0
        self._held_out = 0
        self._kept_sample = KeptSample()

    def load(self, state: LearningState, generation_path: str, model_path: str) -> EngineInfo:
        self._stumble()
        if self._turn is not None:
            self._turn.loads(self._number)
        place = f"{model_path}/{WEIGHTS}" if model_path else PRISTINE
        base = self._disk.read(place).decode()
        self._seed = state.seed
        if generation_path or not model_path:
            self._kept_sample = read_kept_sample(self._disk, generation_path)
        if not generation_path:
            self._weights = Weights(fresh(base, state.adapter_id, state.seed), base, 0)
        else:
            weights = msgspec.json.decode(self._disk.read(f"{generation_path}/{ADAPTER}"), type=Weights)
            moments = msgspec.json.decode(self._disk.read(f"{generation_path}/{OPTIMIZER}"), type=Weights)
            if moments != weights or weights.steps != state.adapter_step:
                raise EngineError("NF-STATE-006", "weights, optimizer and counters are not of the same step")
            if weights.base != base:
                raise EngineError("NF-MODEL-010", "the adapter was trained on another base")
            self._weights = weights
        self._tell(self._weights)
        return EngineInfo("sim", "hash", "model", 1, 1, link("", self._disk.read(PRISTINE)), 1)

    def open_batch(self, path: str, cursor: Cursor, adapter_step: int) -> BatchPlan:
        self._stumble()
        lines = lines_of_file(self._disk.read(path))
        self._held_out = cursor.held_out if cursor.steps else held_out_count(lines)
        self._steps = steps_of(lines, self._seed, cursor.digest, self._held_out)
        self._next = cursor.step
        if not cursor.steps:
            held_out = held_out_of(lines, self._seed, cursor.digest, self._held_out)
            self._kept_sample.add(cursor.digest, windows_of(lines, held_out))
        if adapter_step != self._weights.steps:
            raise EngineError("NF-STATE-006", f"told to go on at step {adapter_step}, stands at {self._weights.steps}")
        tokens = (len(lines) - self._held_out) * EPOCHS
        return BatchPlan(len(self._steps), EPOCHS, len(lines), tokens, 0, 0, held_out=self._held_out)

    def step(self, adapter_step: int) -> Step:
        if adapter_step != self._weights.steps:
            raise EngineError("NF-STATE-006", f"step {adapter_step} asked for, stands at {self._weights.steps}")
        self._stumble()
        examples = self._steps[self._next]
        if any(POISON in example for example in examples):
            self._tell(None)
            raise EngineError("NF-TRAIN-010", "this example cannot be trained")
        self._next += 1
        if any(NOT_FINITE in example for example in examples):
            return Step(math.nan, 1.0, math.nan, len(examples), skipped="the loss is not finite")
        if self._turn is not None:
            self._turn.learns(self._number)
        chain = train(self._weights.chain, examples)
        self._weights = Weights(chain, self._weights.base, self._weights.steps + 1)
        self._tell(self._weights)
        return Step(1.0, 1.0, 1.0, len(examples))

    def evaluate(self) -> float | None:
        return 1.0

    def evaluate_held_out(self) -> float | None:
        return 1.0 if self._held_out else None

    def snapshot(self) -> Mapping[str, Buffer]:
        raw = msgspec.json.encode(self._weights)
        kept = {CONFIG: b"{}\n", HELD_OUT: self._kept_sample.content}
        return {ADAPTER: memoryview(bytearray(raw)), OPTIMIZER: memoryview(bytearray(raw)), **kept}

    def reuse(self, snapshot: Mapping[str, Buffer]) -> None:
        """As if the next snapshot were filled in at once: whoever still reads this one finds another's bytes."""
        for content in snapshot.values():
            if isinstance(content, memoryview):
                content[:] = bytes(len(content))

    def close_batch(self) -> None:
        self._steps = []

    def unload(self) -> None:
        self._weights = Weights("", "", 0)

    def _tell(self, weights: Weights | None) -> None:
        if self._turn is not None:
            self._turn.holds(weights)

    def _stumble(self) -> None:
        if self._trouble():
            self._tell(None)
            raise EngineError("NF-TRAIN-011", "a hiccup of the device", transient=True)
