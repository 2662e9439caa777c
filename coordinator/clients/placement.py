"""Which worker hosts which client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from federa.errors import BadInput


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacementRequest:
    """What a worker said when it joined: the clients it insists on, and whether it trains on data of its own."""

    clients: tuple[int, ...] = ()
    own_data: bool = False


def assign_clients(
    clients: int, devices: int, requests: Mapping[str, PlacementRequest], hosts: Mapping[int, str] | None = None
) -> dict[int, str]:
    """A worker for each of `clients` clients that these workers are to host, in addition to `hosts`: first as the
    workers insist, the rest dealt in turn to the `devices` that the run expects. With fewer workers than that some
    clients stay without a host until the others come.

    Raises BadInput where a client would have two hosts, or none although everybody is there.
    """
    assigned = dict(hosts or {})
    devices_left = devices - len(set(assigned.values()))
    for worker, request in sorted(requests.items()):
        for client in request.clients:
            if not 0 <= client < clients:
                raise BadInput(f"worker {worker} hosts client {client}, but the experiment has 0 to {clients - 1}")
            if client in assigned:
                raise BadInput(f"client {client} is hosted by both {assigned[client]} and {worker}")
            assigned[client] = worker
        devices_left -= bool(request.clients)
    for worker in sorted(name for name, request in requests.items() if not request.clients):
        rest = _without_host(clients, assigned)
        assigned.update(dict.fromkeys(rest[:: max(1, devices_left)], worker))
        devices_left -= 1
    rest = _without_host(clients, assigned)
    if rest and devices_left <= 0:
        raise BadInput(f"no worker hosts the clients {_listed(rest)}; name them with federa-worker --clients")
    for worker, request in sorted(requests.items()):
        hosted = [client for client, host in assigned.items() if host == worker]
        if request.own_data and len(hosted) != 1:
            raise BadInput(
                f"worker {worker} trains on a file of its own, so it must host one client, not {len(hosted)}; "
                "set federation.clients to the number of devices or name one with federa-worker --clients"
            )
    return dict(sorted(assigned.items()))


def _without_host(clients: int, hosts: Mapping[int, str]) -> list[int]:
    return [client for client in range(clients) if client not in hosts]


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
