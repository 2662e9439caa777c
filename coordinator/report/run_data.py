"""What a run read, as its ledger has it: records by part and client, and how many were cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from coordinator.storage.ledger_reader import LedgerReader
from federa.tasks.composition import PARTS, TEST, VALIDATION, CutRecords
from federa.tasks.skew import ClientCounts

HELD_OUT = (VALIDATION, TEST)


def shard_sizes(ledger: LedgerReader, facts: Mapping[str, Any]) -> list[int] | None:
    """The training examples of each client. Where the devices evaluate, each announced what is left of its clients'
    shards beside the parts that they hold out."""
    dealt: list[int] | None = facts.get("shard_sizes")
    if dealt is None or facts["config"].get("evaluation") != "devices":
        return dealt
    announced = {row["client"]: row["examples"] for row in ledger.clients()}
    sizes = [announced.get(client) for client in range(len(dealt))]
    known = [size for size in sizes if size is not None]
    return known if len(known) == len(dealt) else None


def data_read(ledger: LedgerReader, facts: Mapping[str, Any], round_: int) -> dict[str, Any] | None:
    """What was read; where the devices hold records out, with what they said of their parts, once all of them have."""
    data: dict[str, Any] | None = facts.get("data")
    if data is None or facts["config"].get("evaluation") != "devices":
        return data
    said = [[row["examples"] for row in ledger.clients()]]
    said += [[row["counters"].get("examples") for row in ledger.counters(round_, part)] for part in HELD_OUT]
    clients = facts["config"]["federation"]["clients"]
    if any(len(counts) < clients or None in counts for counts in said):
        return data
    parts = dict(zip(PARTS, (int(sum(counts)) for counts in said), strict=True))
    return {**data, "parts": parts, "documents": sum(parts.values())}


def cut_records(ledger: LedgerReader, facts: Mapping[str, Any]) -> dict[str, Any]:
    """How many records lost tokens at which length: of those that the devices have, and of those that the coordinator
    holds out. Null where nobody counted."""
    said = [CutRecords(row["records"], row["cut"]) for row in ledger.clients() if row["records"] is not None]
    return {
        "max_length": facts["config"]["data"].get("max_length"),
        "devices": asdict(CutRecords.summed(said)) if said else None,
        "coordinator": facts.get("held_out_cut"),
    }


def skew_of(data: Mapping[str, Any] | None, sizes: Sequence[int] | None) -> dict[str, float | None]:
    """How unlike the clients' data are, in numbers: the training records of a client, and the mean distance of the
    clients' mixes of classes from that of all (federa.tasks.skew)."""
    counts = ClientCounts.read((data or {}).get("clients"))
    return {
        "least": min(sizes) if sizes else None,
        "median": median(sizes) if sizes else None,
        "most": max(sizes) if sizes else None,
        "distance": counts.distance if counts else None,
    }
