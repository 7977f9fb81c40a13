"""A stage for single actors: a few of the house on simulated time and disk, and a listener that notes all they say.

The test plays everybody who is not on stage: it sends what they would send, and ``Answering`` answers for those who
would be asked. Time is virtual, so waiting costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import reduce
from operator import or_
from typing import Any, Literal, TypeVar

import messages
from messages import Message, Question
from messages.message import reply_types
from runtime import Actor, ActorSystem, Branch, Child, MailboxSpec, on
from runtime.hot.envelope import Envelope
from runtime.simulation import EPOCH, SimClock, SimDevice, SimDisk, SimLoop, SimWorkers
from runtime.simulation.faults import SURVIVALS, Fault, IoError, NoSpace, PowerCut, PowerLost, ShortWrite, Survival

M = TypeVar("M", bound=Message)
Reply = Callable[[Any], Message | Coroutine[Any, Any, Message]]
Job = Callable[[SimDisk], object]

HORIZON = 40 * 86_400.0
SAID: tuple[type[Message], ...] = tuple(
    found
    for found in vars(messages).values()
    if isinstance(found, type) and issubclass(found, Message) and not issubclass(found, Question)
)


def _listener(hear_it: Callable[[Message], None]) -> type[Actor]:
    class Listener(Actor):
        async def hear(self, message: Any) -> None:
            hear_it(message)

    Listener.hear.__annotations__ = {"message": reduce(or_, SAID), "return": None}
    on(Listener.hear)
    return Listener


@dataclass
class _Crash:
    actor: str
    kind: type[Message]
    moment: Literal["before", "after"]
    left: int


def answering(name: str, answers: Mapping[type[Question[Any]], Reply]) -> Child:
    """An actor that answers these questions; a reply may be a coroutine, which is awaited, or raise."""

    def handler(reply: Reply) -> Callable[[Actor, Any], Coroutine[Any, Any, Message]]:
        async def answer(self: Actor, question: Any) -> Message:
            found: Any = reply(question)
            answered: Message = await found if asyncio.iscoroutine(found) else found
            return answered

        return answer

    class Answering(Actor):
        pass

    for question, reply in answers.items():
        method = handler(reply)
        method.__annotations__ = {"question": question, "return": reduce(or_, reply_types(question))}
        setattr(Answering, question.__name__, on(method))
    return Child(name, Answering, intensity=1000)


class Stage:
    """Build it with the children, then ``play``. ``told`` is everything that anybody said, in order."""

    def __init__(
        self,
        *children: Child,
        disk: SimDisk | None = None,
        seed: int = 0,
        epoch: datetime = EPOCH,
        zone: tzinfo = UTC,
        device_seconds: float = 0.01,
    ) -> None:
        self.told: list[Message] = []
        self._news = asyncio.Event()
        self.disk = disk or SimDisk()
        self.loop = SimLoop(seed, horizon=HORIZON, epoch=epoch)
        self.system: ActorSystem
        self._children = children
        self._zone = zone
        self._seed = seed
        self._device_seconds = device_seconds
        self._crashes: list[_Crash] = []

    def play(self, act: Callable[[Stage], Coroutine[Any, Any, None]]) -> Stage:
        """Run the act while the actors live, then stop them in order. What ends either is raised."""
        self.disk.on_power_cut = self.loop.halt
        self.loop.run(self._play(act))
        return self

    async def _play(self, act: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
        listener = Child("listener", _listener(self._hear), mailbox=MailboxSpec(100_000))
        self.system = ActorSystem(
            Branch("stage", (listener, *self._children)),
            clock=SimClock(self.loop, self._zone),
            disk=self.disk,
            workers=SimWorkers(self.loop, longest_seconds=0.01),
            make_device=lambda name: SimDevice(self.loop, name=name, longest_seconds=self._device_seconds),
            seed=self._seed,
            strict=False,
            probe=self._probe,
        )
        running = asyncio.create_task(self.system.run())
        playing = asyncio.create_task(self._act(act))
        await asyncio.wait({running, playing}, return_when=asyncio.FIRST_COMPLETED)
        if not playing.done():
            playing.cancel()
            await running
            raise AssertionError("the actors stopped by themselves")
        self.system.stop("the play is over")
        await running
        playing.result()

    async def _act(self, act: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
        while any(cell.state in ("new", "starting") for cell in self.system.cells.values()):
            await asyncio.sleep(0.01)
        await act(self)

    async def tell(self, *said: Message) -> None:
        """Say it to whoever listens."""
        for message in said:
            await self.system.send(message)

    def heard(self, kind: type[M]) -> list[M]:
        """Everything of this type that was said so far."""
        return [message for message in self.told if isinstance(message, kind)]

    def count(self, kind: type[Message]) -> int:
        """How often it was said."""
        return len(self.heard(kind))

    async def hears(self, kind: type[M], count: int = 1, *, within: float = 3600.0) -> M:
        """Wait until it was said so often; the last of them."""
        try:
            async with asyncio.timeout(within):
                while len(found := self.heard(kind)) < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{kind.__name__} was said {len(found)} times, not {count}: {self.told}") from None
        return found[count - 1]

    def _hear(self, message: Message) -> None:
        self.told.append(message)
        self._news.set()

    async def rest(self, seconds: float = 1.0) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    def crash_over(self, name: str, kind: type[Message], times: int = 1, *, after: bool = False) -> None:
        """The actor crashes over the next so many messages of this type, before or after handling them."""
        self._crashes.append(_Crash(name, kind, "after" if after else "before", times))

    def _probe(self, actor: str, envelope: Envelope, moment: Literal["before", "after"]) -> None:
        for crash in self._crashes:
            if (crash.actor, crash.moment) == (actor, moment) and isinstance(envelope.message, crash.kind):
                if crash.left == 0:
                    continue
                crash.left -= 1
                raise RuntimeError(f"told to crash over {crash.kind.__name__}")


# Sweeps over every operation of a durable job.

CUTS: tuple[PowerCut, ...] = tuple(
    PowerCut(survival, seed, halfway)
    for survival in SURVIVALS
    for seed in range(3 if survival == "torn" else 1)
    for halfway in (False, True)
)
REFUSALS: tuple[Fault, ...] = (NoSpace(), ShortWrite(), IoError())


def operations_of(prepare: Callable[[], SimDisk], job: Job) -> int:
    """How many fault points the job passes when nothing goes wrong."""
    disk = prepare()
    before = disk.operations
    job(disk)
    return disk.operations - before


def fails_at(disk: SimDisk, point: int, fault: Fault) -> None:
    """The operation that is so many from now meets the fault."""
    number = disk.operations + point
    disk.faults = lambda count, _operation, _path: fault if count == number else None


def cut_at(prepare: Callable[[], SimDisk], job: Job, point: int, cut: PowerCut) -> SimDisk:
    """The disk as it is found after the power went at the job's ``point``-th operation (or after its last)."""
    disk = prepare()
    fails_at(disk, point, cut)
    try:
        job(disk)
    except PowerLost:
        return disk.reboot()
    raise AssertionError(f"the job has no operation {point}")


def cut_after(prepare: Callable[[], SimDisk], job: Job, survival: Survival) -> SimDisk:
    """The disk as it is found after the power went when the job had returned."""
    disk = prepare()
    job(disk)
    fails_at(disk, 1, PowerCut(survival))
    try:
        disk.mkdir("any")
    except PowerLost:
        return disk.reboot()
    raise AssertionError("there was no power cut")


def clone(disk: SimDisk) -> SimDisk:
    """The same tree, all of it durable, on a disk of its own."""
    copy = SimDisk()
    for path, data in disk.tree().items():
        if data is None:
            copy.person_mkdir(path)
        elif isinstance(data, bytes):
            copy.person_put(path, data)
        else:
            copy.symlink(data, path)
    for folder in (".", *(path for path, data in disk.tree().items() if data is None)):
        copy.fsync_dir(folder)
    return copy
