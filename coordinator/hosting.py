"""Which worker hosts which client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from federa.errors import BadInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a worker said when it joined: the clients it insists on, and whether it trains on data of its own."""

    clients: tuple[int, ...] = ()
    own_data: bool = False


def assign_clients(clients: int, wishes: Mapping[str, Wish]) -> dict[int, str]:
    """A worker for each of `clients` clients: first as the workers insist, the rest dealt in turn to those that did
    not. Raises BadInput where that leaves a client without a host or with two."""
    hosts: dict[int, str] = {}
    for worker, wish in sorted(wishes.items()):
        for client in wish.clients:
            if not 0 <= client < clients:
                raise BadInput(f"worker {worker} hosts client {client}, but the experiment has 0 to {clients - 1}")
            if client in hosts:
                raise BadInput(f"client {client} is hosted by both {hosts[client]} and {worker}")
            hosts[client] = worker
    rest = [client for client in range(clients) if client not in hosts]
    free = sorted(worker for worker, wish in wishes.items() if not wish.clients)
    if rest and not free:
        raise BadInput(f"no worker hosts the clients {_listed(rest)}; name them with federa-worker --clients")
    for position, client in enumerate(rest):
        hosts[client] = free[position % len(free)]
    for worker, wish in sorted(wishes.items()):
        hosted = [client for client, host in hosts.items() if host == worker]
        if wish.own_data and len(hosted) != 1:
            raise BadInput(
                f"worker {worker} trains on a file of its own, so it must host one client, not {len(hosted)}; "
                "set federation.clients to the number of devices or name one with federa-worker --clients"
            )
    return dict(sorted(hosts.items()))


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
