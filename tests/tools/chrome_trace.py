"""Checks a file against the Trace Event Format, as far as ui.perfetto.dev needs it and these views use it."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

PHASES = {"X", "s", "t", "f", "i", "M"}
METADATA = {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}
EDGE_US = 0.002
"""Stamps are rounded to a nanosecond."""


def check(data: bytes) -> list[dict[str, Any]]:
    """Every event, if all are well formed: tracks named, slices nested, each arrow whole and bound to slices."""
    whole = json.loads(data)
    assert set(whole) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert whole["displayTimeUnit"] in ("ms", "ns")
    events: list[dict[str, Any]] = whole["traceEvents"]
    processes: set[int] = set()
    tracks: dict[tuple[int, int], str] = {}
    for event in events:
        assert event["ph"] in PHASES, event
        assert isinstance(event["name"], str), event
        assert isinstance(event["pid"], int), event
        assert isinstance(event["tid"], int), event
        assert event["ts"] >= 0, event
        if event["ph"] == "M":
            assert event["name"] in METADATA, event
            if event["name"] == "process_name":
                processes.add(event["pid"])
            if event["name"] == "thread_name":
                place = (event["pid"], event["tid"])
                assert place not in tracks, event
                tracks[place] = event["args"]["name"]
        if event["ph"] == "i":
            assert event["s"] in ("t", "p", "g"), event
    shown = [event for event in events if event["ph"] != "M"]
    assert {event["pid"] for event in shown} == processes
    assert {(event["pid"], event["tid"]) for event in shown} <= tracks.keys()
    assert len(set(tracks.items())) == len(tracks)
    assert [event["ts"] for event in shown] == sorted(event["ts"] for event in shown) or len(processes) > 1
    _slices(shown)
    _arrows(shown)
    return events


def _slices(events: list[dict[str, Any]]) -> None:
    """By track. Those of one track follow each other: a chart that nests them where they overlap would lie."""
    slices: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            assert event["dur"] >= 0, event
            slices[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for track, known in slices.items():
        for (_, end), (begin, _) in pairwise(known):
            assert end <= begin + EDGE_US, (track, end, begin)


def _arrows(events: list[dict[str, Any]]) -> None:
    arrows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    newest: dict[tuple[int, int], tuple[float, float]] = {}
    for event in events:
        if event["ph"] == "X":
            newest[event["pid"], event["tid"]] = (event["ts"], event["ts"] + event["dur"])
        if event["ph"] not in ("s", "t", "f"):
            continue
        arrows[event["id"]].append(event)
        # The newest slice of that track which stands before it in the file: that is the one it binds to.
        assert newest[event["pid"], event["tid"]][0] - EDGE_US <= event["ts"], event
        assert event["ts"] <= newest[event["pid"], event["tid"]][1] + EDGE_US, event
    for parts in arrows.values():
        phases = "".join(part["ph"] for part in sorted(parts, key=lambda part: (part["ts"], "stf".index(part["ph"]))))
        assert phases in ("sf", "stf"), parts
        assert len({(part["cat"], part["name"]) for part in parts}) == 1, "ends are matched by all three"
        assert [part.get("bp") for part in parts if part["ph"] == "f"] == ["e"], parts
