"""Recovering a run that an earlier process began: from the ledger's word, in a folder that is made to agree with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.rounds.events import CurvePoint, RoundSnapshot, RunHistory
from coordinator.storage.ledger_reader import LedgerReader
from coordinator.storage.ledger_types import Rows, reading
from coordinator.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveredRun:
    """What a run goes on from. `start` and `state` are digests: of the state that it began with, and of the one it has
    now; `broadcast` is that of the newest round, and `server_state` of what the aggregator remembers beside the
    state, None where there is none. `paces` are how fast updates came (Throughput)."""

    start: str
    state: str
    broadcast: str | None
    server_state: str | None
    history: RunHistory
    paces: Rows


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
    is_aggregated = last is not None and last["state_sha256"] is not None
    round_ = last["round"] if last else 0
    rounds = ledger.rounds()
    state = rounds[-1]["state_sha256"] if rounds else start
    server_state = rounds[-1]["server_sha256"] if rounds else None
    broadcast = last["broadcast_sha256"] if last else None
    accepted = {} if is_aggregated else {row["client"]: row["sha256"] for row in ledger.contributions(round_)}
    folder.tidy(
        states={start, state, broadcast or start, server_state or start},
        updates={folder.update(round_, client, sha256) for client, sha256 in accepted.items()},
        round_=round_,
    )
    curve = tuple(
        CurvePoint(
            value=point["value"],
            elapsed_s=point["elapsed_s"],
            wire_bytes=point["bytes_down"] + point["bytes_up"],
        )
        for point in ledger.curve()
    )
    history = RunHistory(
        snapshot=_snapshot(ledger, round_, accepted),
        is_aggregated=is_aggregated,
        value=last["value"] if last else None,
        spent_s=last["spent_s"] if last else 0.0,
        curve=curve,
        total_s=sum(row["seconds"] for row in rounds),
    )
    return RecoveredRun(
        start=start, state=state, broadcast=broadcast, server_state=server_state, history=history, paces=ledger.paces()
    )


def _snapshot(ledger: LedgerReader, round_: int, accepted: Mapping[int, str]) -> RoundSnapshot:
    drawn_in: dict[int, int] = {}
    attempts = ledger.attempts(round_)
    for attempt, clients in attempts.items():
        drawn_in.update(dict.fromkeys(clients, attempt))
    failures = ledger.client_failures()
    return RoundSnapshot(
        hosts={row["client"]: row["device"] for row in ledger.clients()},
        round=round_,
        attempt=max(attempts, default=0),
        selected=set(drawn_in),
        accepted=set(accepted),
        failed={row["client"] for row in failures if row["round"] == round_ and _is_failed(row, drawn_in)},
        refusals=Counter(row["client"] for row in failures if row["kind"] == "refused"),
        reasons={row["client"]: row["reason"] for row in failures if row["kind"] == "refused"},
    )


def _is_failed(failure: Mapping[str, Any], drawn_in: Mapping[int, int]) -> bool:
    """Whether a client failed in the last attempt that it was drawn in: one that was drawn again is waited for."""
    client = failure["client"]
    return failure["kind"] in ("failed", "refused") and client in drawn_in and failure["attempt"] >= drawn_in[client]
