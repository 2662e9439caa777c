"""Which runs may be shown beside one another, and which may be compared: never two of unlike task, metric or data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.report.runs import Entry, as_text, config_of, link_of, method_of, metric_of

SETTING = ("seed", "bandwidth", "metric", "target")
"""Keys of a run that are the same in runs that are compared."""
_CONFIG = ("task", "model", "evaluation")
"""The same, of its configuration."""
_FILES = ("source", "validation_file", "test_file")
"""Fields of the data section that say where the records are, and not what is made of them."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one task, metric and data, by their places among all. `name` tells the group from the others, and is
    empty where there is one alone."""

    name: str
    places: tuple[int, ...]

    def of(self, entries: Sequence[Entry]) -> list[Entry]:
        """The runs themselves."""
        return [entries[place] for place in self.places]


def groups_of(runs: Sequence[Entry]) -> list[Group]:
    """Runs that a figure may show on one axis, in the order of the first of each group."""
    found: dict[tuple[str, ...], list[int]] = {}
    for place, run in enumerate(runs):
        found.setdefault(_topic(run), []).append(place)
    if len(found) < 2:
        return [Group("", tuple(places)) for places in found.values()]
    names = [_name(runs[places[0]]) for places in found.values()]
    return [
        Group(name if names.count(name) == 1 else f"{name} ({number})", tuple(places))
        for number, (name, places) in enumerate(zip(names, found.values(), strict=True), start=1)
    ]


def variants(runs: Sequence[Entry]) -> list[int]:
    """The place of each run among those of one group, method, link and seed: what tells the curves of a figure
    apart."""
    seen: dict[tuple[str, ...], int] = {}
    found = []
    for run in runs:
        key = (*_topic(run), method_of(run), link_of(run), as_text(run.get("seed")))
        found.append(seen.get(key, 0))
        seen[key] = found[-1] + 1
    return found


def are_comparable(one: Entry, other: Entry) -> bool:
    """Whether what one run saves against the other says something of their methods: both have the same data, dealt to
    as many clients, the same model, seed, link, metric and target."""
    return _setting(one) == _setting(other) and _data(one, other) == _data(other, one)


def _topic(run: Entry) -> tuple[str, ...]:
    metric = (as_text(run.get("metric")), as_text(run.get("better")))
    return as_text(config_of(run).get("task")), *metric, _records(run)


def _records(run: Entry) -> str:
    """What the run's records are known by: their digest, or where they are."""
    if digest := as_text(run.get("data_digest")):
        return digest
    data = config_of(run).get("data")
    return as_text([data.get(key) for key in _FILES]) if isinstance(data, Mapping) else ""


def _name(run: Entry) -> str:
    """'entity F1, token classification, wnut2017'."""
    config = config_of(run)
    task = as_text(config.get("task")).replace("-", " ")
    return ", ".join(filter(None, (metric_of(run), task, as_text(config.get("name")))))


def _setting(run: Entry) -> list[str]:
    config = config_of(run)
    federation = config.get("federation")
    clients = federation.get("clients") if isinstance(federation, Mapping) else None
    known = [run.get(key) for key in SETTING] + [config.get(key) for key in _CONFIG]
    return list(map(as_text, [*known, run.get("better") or "higher", clients]))


def _data(run: Entry, other: Entry) -> str:
    """The data as they are compared with another run's. Where the records of both are known by their digest, the same
    ones may lie elsewhere."""
    digests = [as_text(one.get("data_digest")) for one in (run, other)]
    data = config_of(run).get("data")
    section = dict(data) if isinstance(data, Mapping) else {}
    if all(digests):
        section = {key: value for key, value in section.items() if key not in _FILES}
    return as_text([section, digests[0] if all(digests) else ""])
