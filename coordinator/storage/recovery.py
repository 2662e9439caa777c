"""What a run goes on from when an earlier process began it: the ledger's word, and a folder that agrees with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from coordinator.rounds.events import RoundSnapshot
from coordinator.storage.ledger_reader import LedgerReader
from coordinator.storage.ledger_types import reading
from coordinator.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveredRun:
    """`start`, `state` and `server_state` are digests: of the state that the run began with, of the one it has now, and
    of what the aggregator remembers beside it (None: nothing). `last` is the
    newest round's row, None before the first."""

    start: str
    state: str
    server_state: str | None
    last: dict[str, Any] | None
    past: RoundSnapshot

    @property
    def folded(self) -> bool:
        """Whether the newest round's new state is there."""
        return _is_folded(self.last)

    @property
    def spent_s(self) -> float:
        """How long the newest round has been open."""
        return self.last["spent_s"] if self.last else 0.0


def recover(ledger: LedgerReader, folder: RunFolder) -> RecoveredRun | None:
    """Read a run back, and clear its folder of what the ledger does not know. None when there is nothing to go on
    from: its start was not recorded."""
    with reading(ledger.path):
        return _recover(ledger, folder)


def _recover(ledger: LedgerReader, folder: RunFolder) -> RecoveredRun | None:
    start = ledger.facts().get("start_sha256")
    if start is None:
        return None
    last = ledger.last_round()
    round_ = last["round"] if last else 0
    rounds = ledger.rounds()
    state = rounds[-1]["state_sha256"] if rounds else start
    server_state = rounds[-1]["server_sha256"] if rounds else None
    accepted = {} if _is_folded(last) else {row["client"]: row["sha256"] for row in ledger.contributions(round_)}
    folder.tidy(
        states={start, state, server_state or start, last["broadcast_sha256"] if last else start},
        updates={folder.update(round_, client, sha256) for client, sha256 in accepted.items()},
        round_=round_,
    )
    return RecoveredRun(
        start=start,
        state=state,
        server_state=server_state,
        last=last,
        past=_past(ledger, round_, accepted),
    )


def _is_folded(round_: dict[str, Any] | None) -> bool:
    return round_ is not None and round_["state_sha256"] is not None


def _past(ledger: LedgerReader, round_: int, accepted: dict[int, str]) -> RoundSnapshot:
    drawn_in: dict[int, int] = {}
    attempts = ledger.attempts(round_)
    for attempt, clients in attempts.items():
        drawn_in.update(dict.fromkeys(clients, attempt))
    setbacks = ledger.setbacks()
    failed = {
        row["client"]
        for row in setbacks
        if row["round"] == round_
        and row["kind"] in ("failed", "refused")
        and row["client"] in drawn_in
        # A client that was drawn again after it failed is waited for.
        and row["attempt"] >= drawn_in[row["client"]]
    }
    return RoundSnapshot(
        hosts={row["client"]: row["device"] for row in ledger.clients()},
        round=round_,
        attempt=max(attempts, default=0),
        selected=set(drawn_in),
        accepted=set(accepted),
        failed=failed,
        refusals=Counter(row["client"] for row in setbacks if row["kind"] == "refused"),
    )
