"""Sums of seconds and joules: of a device, of its rounds, and of a run, with the reason where there is no sum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.storage.ledger_types import Rows
from federa.energy import Energy
from federa.phases import EVALUATE

_MAX_NAMED = 3


def total_energy(rows: Iterable[Mapping[str, Any]]) -> Energy:
    """The sum of some rows of the ledger's phases."""
    total = Energy()
    for row in rows:
        total += Energy(
            seconds=row["seconds"],
            covered_s=row["covered_s"],
            joules=row["joules"],
            largest_gap_s=row["largest_gap_s"],
            peak_w=None if row["peak_mw"] is None else row["peak_mw"] / 1e3,
        )
    return total


def why_no_sum(power: Mapping[str, Any]) -> str | None:
    """Why the joules of one device stand in no sum: what it measured in one life is not what it did in another."""
    if len(scopes := power.get("scopes", ())) > 1:
        return f"it measured {_listed(scopes)} one after the other, which are never added"
    if power.get("replayed") and power.get("measured"):
        return "a part was measured and a part is a replay, which are never added"
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEnergy:
    """The energy of all devices that took part in the rounds. `after` is, by round, the sum of that round and those
    before it, without the time in which the coordinator evaluated: time_to_target_s leaves it out as well. `note` says
    in one line why there is no sum."""

    after: Mapping[int, float | None]
    scope: str | None
    coverage: float | None
    note: str | None
    is_replay: bool


def run_energy(
    phases: Rows, powers: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Mapping[str, str]]
) -> RunEnergy:
    """The sum over the ledger's phases, judged by what each device measures with and is."""
    counted = [row for row in phases if row["round"] > 0 and row["phase"] != EVALUATE]
    of_device: dict[str, Rows] = defaultdict(list)
    for row in counted:
        of_device[row["device"]].append(row)
    totals = {name: total_energy(rows) for name, rows in sorted(of_device.items())}
    used = {name: powers.get(name, {}) for name in totals}
    is_replay = any(power.get("replayed") for power in used.values())
    scopes: dict[str, list[str]] = defaultdict(list)
    for name, power in used.items():
        for scope in power.get("scopes", ()):
            scopes[scope].append(name)
    note = (
        _unmeasured({name: power for name, power in used.items() if totals[name].joules is None})
        or _several_scopes(scopes)
        or _replays_beside(used)
        or _one_machine(used, facts)
    )
    whole = total_energy(counted)
    return RunEnergy(
        after={} if note else _after(counted),
        scope=next(iter(scopes)) if len(scopes) == 1 and not note else None,
        coverage=whole.coverage if whole.joules is not None and not note else None,
        note=note if totals else "no device has reported from a round",
        is_replay=is_replay,
    )


def _after(counted: Rows) -> dict[int, float | None]:
    """The cumulative sums by round; None while a device that has taken part by then has no joules yet."""
    sums: dict[str, float | None] = {}
    after: dict[int, float | None] = {}
    for row in sorted(counted, key=lambda row: int(row["round"])):
        before = sums.get(row["device"])
        sums[row["device"]] = before if row["joules"] is None else (before or 0.0) + row["joules"]
        known = [joules for joules in sums.values() if joules is not None]
        after[row["round"]] = sum(known) if len(known) == len(sums) else None
    return after


def _unmeasured(powers: Mapping[str, Mapping[str, Any]]) -> str | None:
    if not powers:
        return None
    details = {str(power["detail"]) for power in powers.values() if power.get("detail")}
    why = f": {details.pop()}" if len(details) == 1 else ""
    return f"power was not measured on {_listed(list(powers))}{why}"


def _several_scopes(scopes: Mapping[str, Sequence[str]]) -> str | None:
    if len(scopes) < 2:
        return None
    each = "; ".join(f"{scope} on {_listed(names)}" for scope, names in sorted(scopes.items()))
    return f"what was measured is not the same everywhere, so there is no sum: {each}"


def _replays_beside(powers: Mapping[str, Mapping[str, Any]]) -> str | None:
    replayed = [name for name, power in powers.items() if power.get("replayed")]
    if not replayed or not any(power.get("measured") for power in powers.values()):
        return None
    return f"joules of {_listed(replayed)} are a replay and others were measured, so there is no sum"


def _one_machine(powers: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Mapping[str, str]]) -> str | None:
    hosts: dict[str, list[str]] = defaultdict(list)
    for name, power in powers.items():
        host = facts.get(name, {}).get("host")
        if host and not power.get("replayed"):
            hosts[host].append(name)
    for names in hosts.values():
        if len(names) > 1:
            return f"{_listed(names)} run on one machine and each measured all of it, so there is no sum"
    return None


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    if more > 1:
        return f"{', '.join(names[:_MAX_NAMED])} and {more} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
