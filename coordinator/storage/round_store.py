"""Recording a run's rounds in its ledger, off the event loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coordinator.rounds.collaborators import AcceptedUpdate, FailureKind
from coordinator.storage.ledger import Ledger
from coordinator.threads import in_thread
from federa.aggregation.base import Aggregate


class LedgerRoundStore:
    """A RoundStore (coordinator.rounds.collaborators). Each call is a transaction on a thread, awaited."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def wire_bytes(self) -> int:
        """All bytes of states that have moved."""
        return self._ledger.bytes_down + self._ledger.bytes_up

    async def selected(self, round_: int, attempt: int, clients: Sequence[int], broadcast_sha256: str) -> None:
        """Record an attempt's draw."""
        await in_thread(self._ledger.selected, round_, attempt, clients, broadcast_sha256)

    async def updates(self, round_: int) -> Sequence[AcceptedUpdate]:
        """Read every update of a round that was acknowledged, by client."""
        rows = await in_thread(self._ledger.contributions, round_)
        return [AcceptedUpdate(client=row["client"], sha256=row["sha256"], examples=row["examples"]) for row in rows]

    async def record_failures(
        self, kind: FailureKind, round_: int, attempt: int, devices: Mapping[int, str], reason: str
    ) -> None:
        """Record that this befell these clients, each with the device that hosts it."""
        await in_thread(
            self._ledger.record_failures, kind, round_=round_, attempt=attempt, devices=devices, reason=reason
        )

    async def aggregated(self, round_: int, seconds: float, made: Aggregate) -> None:
        """Record what a round made, so long after its announcement: the state and the aggregator's own together."""
        await in_thread(self._ledger.aggregated, round_, seconds, made.state, made.server_state)

    async def evaluated(self, round_: int, value: float, examples: int, counters: Mapping[str, float]) -> None:
        """Record the metric of a round's state, and the counters that it is made of."""
        await in_thread(self._ledger.evaluated, round_, value, examples, counters)
