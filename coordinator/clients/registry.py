"""Who hosts which client, how many examples each has, and who is here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence

from coordinator.clients.placement import PlacementRequest, assign_clients
from coordinator.rounds.failures import Failure
from coordinator.storage.ledger import Ledger
from coordinator.threads import in_thread


class ClientRegistry:
    """Knows the clients of one run and the workers that host them. It is the one owner of who hosts what and of who is
    unable: the round state machine is told both by events, and whoever else needs them asks here. What must outlast a
    kill is in the ledger, and is read back from there."""

    def __init__(self, ledger: Ledger) -> None:
        """Read what an earlier process of this run recorded: its workers may come with their updates before anything
        is prepared. Takes a moment; not on an event loop."""
        self.count = 0
        """How many clients the experiment has, hosted or not."""
        self.devices = 0
        """How many devices it expects."""
        self.hosts: dict[int, str] = {}
        """The name of each client's host, connected or not."""
        self.examples: dict[int, int] = {}
        """How many examples each client has, as its host announced."""
        self.ready: set[str] = set()
        """Workers that have prepared, and said so on the stream that is up."""
        self.keys = ledger.keys()
        """The workers' own, by name."""
        self._ledger = ledger
        self._clients_of: dict[str, list[int]] = {}
        self._here: set[str] = set()
        self.unable: dict[str, Failure] = {}
        """Hosts that said that they cannot take part, and why."""
        self._began_s = time.monotonic()
        self._left_s: dict[str, float] = {}
        self._placing = asyncio.Lock()
        rows = ledger.clients()
        self._set_hosts({row["client"]: row["device"] for row in rows})
        self.examples.update({row["client"]: row["examples"] for row in rows if row["examples"] is not None})

    def expect(self, *, clients: int, devices: int) -> None:
        """Take in how many clients the experiment has, and how many devices it expects."""
        self.count, self.devices = clients, devices

    # ---- who hosts what

    @property
    def workers(self) -> Collection[str]:
        """The names of the workers that host a client."""
        return self._clients_of.keys()

    def hosted_by(self, worker: str) -> Sequence[int]:
        """The clients of a worker, ascending; none where it hosts none."""
        return self._clients_of.get(worker, ())

    async def place(self, requests: Mapping[str, PlacementRequest], keys: Mapping[str, str]) -> None:
        """Give clients that have no host to those of these workers that host none yet, while the run expects more
        devices; durable when this returns. Raises BadInput where a worker insists on what cannot be."""
        async with self._placing:
            room = self.devices - len(self._clients_of)
            fresh = [name for name in sorted(requests) if name not in self._clients_of][: max(0, room)]
            if not fresh:
                return
            hosts = assign_clients(self.count, self.devices, {name: requests[name] for name in fresh}, self.hosts)
            new = {client: host for client, host in hosts.items() if client not in self.hosts}
            new_keys = {name: keys[name] for name in fresh}
            await in_thread(self._ledger.hosted, new_keys, new)
            self.keys.update(new_keys)
            self._set_hosts(hosts)

    def _set_hosts(self, hosts: Mapping[int, str]) -> None:
        self.hosts = dict(hosts)
        self._clients_of = {}
        for client, host in sorted(hosts.items()):
            self._clients_of.setdefault(host, []).append(client)

    # ---- who is here, and who can take part

    @property
    def able(self) -> Sequence[str]:
        """Hosts, connected or not, but those that said that they cannot take part."""
        return sorted(self._clients_of.keys() - self.unable.keys())

    def arrive(self, worker: str) -> None:
        """Note that a worker's stream is up, for the first time or again: it has yet to say that it is ready."""
        self._here.add(worker)
        self.ready.discard(worker)

    def leave(self, worker: str) -> None:
        """Note that a worker's stream is gone."""
        self._left_s[worker] = time.monotonic()
        self._here.discard(worker)
        self.ready.discard(worker)

    def mark_ready(self, worker: str, examples: Mapping[int, int]) -> None:
        """Note that a worker has prepared, and how many examples it has of each of its clients."""
        self.examples.update(examples)
        self.unable.pop(worker, None)
        self.ready.add(worker)

    def mark_unable(self, worker: str, why: Failure) -> None:
        """Note that a worker cannot take part, until it is ready after all."""
        self.unable[worker] = why
        self.ready.discard(worker)

    def away_s(self, worker: str) -> float | None:
        """How long a host has been away, in seconds, as far as this process knows; None for one that is here."""
        return None if worker in self._here else time.monotonic() - self._left_s.get(worker, self._began_s)
