"""What goes wrong with jobs: they raise before or after, take long, and a device hangs until it is asked to stop."""

from __future__ import annotations

import pytest

from runtime.simulation import SimDevice, SimLoop, SimWorkers, simulate
from runtime.simulation.workers import JobTrouble


@pytest.mark.parametrize(("raises", "done"), [("before", 0), ("after", 1)])
def test_a_job_raises_before_or_after_it_did_its_work(raises: str, done: int) -> None:
    worked: list[int] = []

    async def main(loop: SimLoop) -> None:
        workers = SimWorkers(loop)
        workers.trouble = lambda: JobTrouble(raises=raises)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="sabotage"):
            await workers.call(lambda: worked.append(1))

    simulate(main)
    assert len(worked) == done


def test_a_slow_job_takes_its_seconds_more() -> None:
    async def main(loop: SimLoop) -> float:
        workers = SimWorkers(loop)
        workers.trouble = lambda: JobTrouble(seconds=60.0)
        await workers.call(lambda: None)
        return loop.time()

    assert 60.0 < simulate(main) < 61.0


def test_a_device_that_hangs_wakes_when_it_is_asked_to_stop() -> None:
    async def main(loop: SimLoop) -> tuple[float, list[object]]:
        device = SimDevice(loop)
        results: list[object] = []
        device.trouble = lambda: JobTrouble(seconds=7200.0)
        device.start(device.interrupted, results.append)
        loop.call_later(100.0, device.interrupt)
        loop.call_later(100.0, device.interrupt)
        await device.join()
        return loop.time(), results

    seconds, results = simulate(main)
    assert 100.0 < seconds < 110.0
    assert results == [True]


def test_a_device_that_hangs_goes_on_by_itself_in_the_end() -> None:
    async def main(loop: SimLoop) -> tuple[float, list[object]]:
        device = SimDevice(loop)
        results: list[object] = []
        device.trouble = lambda: JobTrouble(seconds=7200.0)
        device.start(device.interrupted, results.append)
        await device.join()
        return loop.time(), results

    assert simulate(main) == (7200.0, [False])


def test_a_device_job_that_raises_reports_the_exception() -> None:
    async def main(loop: SimLoop) -> list[object]:
        device = SimDevice(loop)
        results: list[object] = []
        device.trouble = lambda: JobTrouble(raises="after")
        device.start(lambda: 1, results.append)
        await device.join()
        return results

    assert [type(result) for result in simulate(main)] == [RuntimeError]
