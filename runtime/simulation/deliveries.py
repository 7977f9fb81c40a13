"""Two promises of the runtime itself, for the checkers of any tree: messages keep their order, and none vanishes.

Both are asked of the trace of a life that has ended in order. They leave out what may be replaced or coalesced while it
waits: the control lane, and the types that are named as ``latest``.
"""

from __future__ import annotations

from runtime.simulation.trial import Moment, Trial, Violation

ENDINGS = ("done", "dead", "dropped")


class DeliveriesKeepTheirOrder:
    """What one actor sends to another in one lane is begun in the order in which it was sent."""

    promise = "messages keep their order"
    when: tuple[Moment, ...] = ("stop",)

    def __init__(self, *, latest: tuple[str, ...] = ()) -> None:
        self._latest = latest

    def check(self, trial: Trial) -> None:
        lane = {envelope.id: envelope.control for envelope in trial.deliveries}
        newest: dict[tuple[str, str, bool], int] = {}
        for record in trial.records:
            if record.kind != "begun" or record.type in self._latest:
                continue
            if record.id not in lane:
                continue  # of a long life the ring has let its sending go, and with it the lane
            pair = (record.sender, record.recipient, lane[record.id])
            if record.id < newest.get(pair, 0):
                raise Violation(
                    f"{record.recipient} began {record.type} from {record.sender} (delivery {record.id}) "
                    f"after delivery {newest[pair]}, which was sent later"
                )
            newest[pair] = record.id


class NoMessageVanishes:
    """What was sent was handled, is dead or dropped, with a record that says so; or it was still on its way."""

    promise = "no message vanishes"
    when: tuple[Moment, ...] = ("stop",)

    def __init__(self, *, latest: tuple[str, ...] = ()) -> None:
        self._latest = latest

    def check(self, trial: Trial) -> None:
        if not trial.records:
            return
        on_its_way = trial.records[-1].at - trial.pace.delivery - 1.0
        ended = {record.id for record in trial.records if record.kind in ENDINGS}
        for envelope in trial.deliveries:
            kind = type(envelope.message).__name__
            if envelope.id in ended or envelope.control or kind in self._latest or envelope.sent_at > on_its_way:
                continue
            raise Violation(
                f"{kind} from {envelope.sender} to {envelope.recipient} (delivery {envelope.id}) was sent, "
                "and nothing tells what became of it"
            )
