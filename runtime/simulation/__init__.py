"""A universe in one thread: virtual time, seeded order, and a disk that forgets what was not synced."""

from __future__ import annotations

from runtime.simulation.clock import SimClock
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import (
    Fault,
    IoError,
    NoSpace,
    PowerCut,
    PowerLost,
    ShortWrite,
    Survival,
)
from runtime.simulation.loop import (
    EPOCH,
    SimDeadlock,
    SimEscape,
    SimHorizon,
    SimLivelock,
    SimLoop,
    SimulationError,
    latency,
    simulate,
)
from runtime.simulation.workers import SimDevice, SimWorkers

__all__ = [
    "EPOCH",
    "Fault",
    "IoError",
    "NoSpace",
    "PowerCut",
    "PowerLost",
    "ShortWrite",
    "SimClock",
    "SimDeadlock",
    "SimDevice",
    "SimDisk",
    "SimEscape",
    "SimHorizon",
    "SimLivelock",
    "SimLoop",
    "SimWorkers",
    "SimulationError",
    "Survival",
    "latency",
    "simulate",
]
