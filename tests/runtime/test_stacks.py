"""Where something stands, as text: every frame of ours by its place in the house, nothing that differs by the run."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from runtime.stacks import where_it_broke, where_it_waits

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().relative_to(ROOT).as_posix()


async def inner() -> None:
    await asyncio.get_running_loop().create_future()


async def outer() -> None:
    await inner()


async def broken() -> None:
    raise RuntimeError("broken")


def test_where_a_coroutine_waits_names_each_await_and_no_address() -> None:
    async def look() -> str:
        waits = outer()
        task = asyncio.ensure_future(waits)
        await asyncio.sleep(0)
        text = where_it_waits(waits)
        task.cancel()
        return text

    awaited = asyncio.run(look()).splitlines()
    assert [re.sub(r"line \d+", "line N", line) for line in awaited[:2]] == [
        f'  File "{HERE}", line N, in {name}' for name in ("outer", "inner")
    ]
    assert awaited[2:] == ["  awaits FutureIter"]


def test_where_it_broke_names_our_files_from_where_the_house_lies() -> None:
    async def breaks() -> str:
        (error,) = await asyncio.gather(broken(), return_exceptions=True)
        assert isinstance(error, RuntimeError)
        return where_it_broke(error)

    text = asyncio.run(breaks())
    assert f'File "{HERE}"' in text
    assert str(ROOT) not in text
