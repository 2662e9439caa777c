"""What the coordinator makes of a round's updates, by name. A new one is a file beside this one and a line in
AGGREGATORS; docs/extending.md shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federa.registry import load_class

if TYPE_CHECKING:
    from federa.aggregation.base import Aggregator

AGGREGATORS = {
    "fedavg": "federa.aggregation.fedavg:FedAvg",
}


def aggregator_class(name: str) -> type[Aggregator]:
    """The class of an aggregator. Raises KeyError for a name that is not in AGGREGATORS, BadInput
    where its entry leads to no class."""
    found: type[Aggregator] = load_class("AGGREGATORS", AGGREGATORS, name)
    return found
