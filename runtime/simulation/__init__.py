"""A universe in one thread: virtual time, seeded order, a disk that forgets what was not synced, and weather.

``trial.Trial`` runs any tree of actors through it; the rest is what it is made of.
"""

from __future__ import annotations

from runtime.simulation.clock import SimClock
from runtime.simulation.deliveries import DeliveriesKeepTheirOrder, NoMessageVanishes
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
from runtime.simulation.life import Life
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
from runtime.simulation.strikes import Strike
from runtime.simulation.trial import Checker, Found, Trial, Violation
from runtime.simulation.weather import Climate
from runtime.simulation.workers import SimDevice, SimWorkers

__all__ = [
    "EPOCH",
    "Checker",
    "Climate",
    "DeliveriesKeepTheirOrder",
    "Fault",
    "Found",
    "IoError",
    "Life",
    "NoMessageVanishes",
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
    "Strike",
    "Survival",
    "Trial",
    "Violation",
    "latency",
    "simulate",
]
