"""A run as Chrome trace JSON, which opens in https://ui.perfetto.dev: one track an actor, an arrow for each message.

The format: ``X`` is a slice with a duration, ``s`` and ``f`` begin and end an arrow and bind to the slice around them,
``i`` is a moment, ``M`` names a track. Times are microseconds.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tools.trace_views.recorded import Delivery, Run, brief

PROCESS = 1


def perfetto(run: Run) -> bytes:
    """The whole file."""
    began = run.records[0].at
    tracks: dict[str, int] = {}
    events: list[dict[str, Any]] = []

    def event(phase: str, name: str, actor: str, at: float, **more: Any) -> None:
        track = tracks.setdefault(actor, len(tracks) + 1)
        stamp = round((at - began) * 1e6, 3)
        events.append({"ph": phase, "name": name, "pid": PROCESS, "tid": track, "ts": stamp, **more})

    open_slices: dict[str, tuple[int, float]] = {}
    first_taken: dict[int, float] = {}
    for record in run.records:
        delivery = run.deliveries.get(record.id)
        match record.kind:
            case "begun":
                open_slices[record.recipient] = (record.id, record.at)
                if delivery is not None and record.id not in first_taken and _was_in_hand(run, delivery):
                    first_taken[record.id] = record.at
                    event("s", record.type, record.sender, delivery.sent_at, cat="message", id=record.id)
                    event("f", record.type, record.recipient, record.at, cat="message", id=record.id, bp="e")
            case "done" | "crashed":
                number, at = open_slices.pop(record.recipient, (0, record.at))
                if number == record.id and number:
                    event("X", record.type, record.recipient, at, dur=round((record.at - at) * 1e6, 3),
                          cat="handler", args=_arguments(record.id, delivery, record.attempt))  # fmt: skip
                if record.kind == "crashed":
                    told = str(record.body.value or "")
                    event("i", f"crashed: {told}", record.recipient, record.at, s="t", cat="crash")
            case "dead" | "dropped":
                event("i", f"{record.kind}: {record.type}", record.recipient, record.at, s="t", cat=record.kind)
    for actor, (number, at) in open_slices.items():
        # In hand when the trace ended: as long as the trace is.
        delivery = run.deliveries.get(number)
        name = delivery.type if delivery is not None else "?"
        dur = round((run.records[-1].at - at) * 1e6, 3)
        event("X", name, actor, at, dur=dur, cat="handler", args=_arguments(number, delivery, 0))
    names = [
        {"ph": "M", "name": "thread_name", "pid": PROCESS, "tid": track, "args": {"name": actor}}
        for actor, track in tracks.items()
    ]
    process = {"ph": "M", "name": "process_name", "pid": PROCESS, "tid": 0, "args": {"name": "nightfold"}}
    wall = run.wall(began)
    about = {"began": wall.isoformat()} if wall else {}
    whole = {"traceEvents": [process, *names, *events], "displayTimeUnit": "ms", "otherData": about}
    return msgspec.json.encode(whole) + b"\n"


def _was_in_hand(run: Run, delivery: Delivery) -> bool:
    """Was it sent out of a handler? An arrow needs a slice to start from; a timer's or the thread's has none."""
    cause = run.deliveries.get(delivery.cause)
    if cause is None or cause.begun_at is None or cause.recipient != delivery.sender:
        return False
    return cause.begun_at <= delivery.sent_at <= (cause.done_at if cause.done_at is not None else delivery.sent_at)


def _arguments(number: int, delivery: Delivery | None, attempt: int) -> dict[str, Any]:
    if delivery is None:
        return {"id": number}
    return {
        "id": number,
        "cause": delivery.cause,
        "sender": delivery.sender,
        "attempt": attempt,
        "queued_ms": round((delivery.queued_s or 0.0) * 1e3, 3),
        "message": brief(delivery.body),
    }
