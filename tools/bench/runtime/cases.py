"""The cases and who takes part in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from tools.bench.runtime import bridge, nightfold, ray_processes, tracing
from tools.bench.runtime.pykka_threads import Pykka
from tools.bench.runtime.queues import Contestant, DequeBox, queue_box, stream_box
from tools.bench.runtime.shape import (
    CAPACITY,
    CPU,
    HEARERS,
    RING,
    WALL,
    Case,
    Crowd,
    Run,
    Way,
    started_and_stopped,
    weighed,
)
from tools.bench.runtime.thespian_actors import Thespian
from tools.bench.runtime.xoscar_pool import Xoscar

QUEUE, FLOOR, STREAM = Contestant(queue_box), Contestant(DequeBox), Contestant(stream_box)
PYKKA, THESPIAN, XOSCAR = Pykka(), Thespian(), Xoscar()
THREADS = 1_000
"""Actors of Pykka's that are started: ten thousand threads are more than many a machine lets one process have."""

Opened = Callable[[], AbstractAsyncContextManager[Run]]


def _ways(ours: Opened, named: str) -> Mapping[str, Way]:
    """Us and every peer that has a method of that name, the frameworks of an other kind last."""
    queue, floor, stream = (getattr(contestant, named) for contestant in (QUEUE, FLOOR, STREAM))
    return {
        "nightfold": Way(ours),
        "nightfold, compiled": Way(ours, compiled=True),
        "asyncio.Queue": Way(queue),
        "deque, one waiter": Way(floor),
        "anyio stream": Way(stream),
        "nightfold, uvloop": Way(ours, loop="uvloop"),
        "nightfold, compiled, uvloop": Way(ours, loop="uvloop", compiled=True),
        "asyncio.Queue, uvloop": Way(queue, loop="uvloop"),
        "Thespian simple base": Way(getattr(THESPIAN, named), needs=("thespian",)),
        "Pykka": Way(getattr(PYKKA, named), needs=("pykka",)),
        "xoscar, one process": Way(getattr(XOSCAR, named), needs=("xoscar",)),
    }


def _crowds(measured: Callable[[Crowd], Opened]) -> Mapping[str, Way]:
    """Us and every peer, each with so many actors."""
    return {
        "nightfold": Way(measured(nightfold.crowd)),
        "nightfold, compiled": Way(measured(nightfold.crowd), compiled=True),
        "asyncio.Queue": Way(measured(QUEUE.crowd)),
        "deque, one waiter": Way(measured(FLOOR.crowd)),
        "anyio stream": Way(measured(STREAM.crowd)),
        "Thespian simple base": Way(measured(THESPIAN.crowd), needs=("thespian",)),
        f"Pykka, {THREADS:,} actors": Way(measured(PYKKA.crowd), needs=("pykka",), most=THREADS),
        "xoscar, one process": Way(measured(XOSCAR.crowd), needs=("xoscar",)),
    }


CASES: Mapping[str, Case] = {
    "tell": Case(
        f"one sender, one receiver that counts, mailbox of {CAPACITY}, the sender awaits; sent and handled",
        "message",
        20_000,
        {**_ways(nightfold.tell, "tell"), "Ray, a process": Way(ray_processes.tell, needs=("ray",), most=500)},
    ),
    "ask": Case(
        "a question and its answer, one after the other; ours with a time-out on each",
        "round trip",
        5_000,
        {**_ways(nightfold.ask, "ask"), "Ray, a process": Way(ray_processes.ask, needs=("ray",), most=100)},
    ),
    "ring": Case(
        f"{RING} actors in a ring, {RING} tokens at once, one started at each",
        "hop",
        20_000,
        _ways(nightfold.ring, "ring"),
    ),
    "ring_one": Case(
        f"{RING} actors in a ring, one token: every hop wakes a parked actor",
        "hop",
        5_000,
        _ways(nightfold.ring_one, "ring_one"),
    ),
    "fan_out": Case(
        f"one sender, every message heard by {HEARERS} actors",
        "delivery",
        20_000,
        _ways(nightfold.fan_out, "fan_out"),
    ),
    "start": Case(
        "10,000 actors in one system built, started and stopped",
        "actor",
        10_000,
        _crowds(started_and_stopped),
        fixed=True,
    ),
    "memory": Case(
        "10,000 idle actors in a fresh process: what each adds to the resident memory",
        "actor",
        10_000,
        _crowds(weighed),
        fixed=True,
        columns=("bytes",),
    ),
    "trace": Case(
        "telling as above, the same with a trace that is let go at once, and the trace's instructions alone",
        "message",
        20_000,
        {
            "nightfold": Way(nightfold.tell),
            "nightfold, trace let go at once": Way(tracing.tell_forgotten),
            "keeping alone": Way(tracing.keeping),
            "envelope alone": Way(tracing.making),
        },
        peer="nightfold, trace let go at once",
    ),
    "trace_read": Case(
        f"the trace of real messages followed or written, {tracing.RECORDS:,} records at a time; a message makes three",
        "record",
        tracing.RECORDS,
        {
            "Trace.since": Way(tracing.Reading(tracing.reading).opened),
            "trace_files.encode": Way(tracing.Reading(tracing.encoding).opened),
            "TraceWriter.append": Way(tracing.Reading(tracing.appending).opened),
            "logging to a file": Way(tracing.Reading(tracing.logging_lines).opened),
        },
        peer="logging to a file",
    ),
    "bridge": Case(
        "numbers from another thread to the loop, as fast as it can, the daemon's switch interval",
        "number",
        2_000,
        {
            "deque, one wake-up": Way(bridge.Flood(bridge.one_wakes).opened),
            "call_soon_threadsafe": Way(bridge.Flood(bridge.each_wakes).opened),
            "anyio from_thread": Way(bridge.Flood(bridge.from_thread, in_worker=True).opened),
        },
        peer="call_soon_threadsafe",
        columns=(bridge.CALLER, WALL, CPU),
        prepared=bridge.as_the_daemon,
    ),
    "device": Case(
        "an empty job on the device's thread and its result back on the loop, one after the other",
        "job",
        1_000,
        {
            "nightfold on_device": Way(bridge.on_device),
            "nightfold device_call": Way(bridge.device_call),
            "run_in_executor": Way(bridge.executor),
            "anyio to_thread": Way(bridge.to_thread),
        },
        peer="run_in_executor",
        columns=(WALL, CPU),
        prepared=bridge.as_the_daemon,
    ),
}
