"""All protocols that are swept alone."""

from __future__ import annotations

from tools.exhaustion.durable_protocols import DURABLE
from tools.exhaustion.filing_protocols import FILING
from tools.exhaustion.night_protocols import NIGHTS
from tools.exhaustion.reserve_protocols import RESERVES
from tools.exhaustion.scenario import Scenario
from tools.exhaustion.store_protocols import STORE

PROTOCOLS: tuple[Scenario, ...] = (*DURABLE, *STORE, *FILING, *NIGHTS, *RESERVES)
