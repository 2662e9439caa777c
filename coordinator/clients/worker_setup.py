"""What the workers of a run are to prepare, and what they must have then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from federa.tasks.composition import CutRecords
from protos import federation_pb2 as pb

MAX_EXAMPLES = 1 << 31
"""The most examples of one client: far above any data set, and what SQLite holds and float64 weighs exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSetup:
    """The set-up that every host is sent. `shards` are the clients' examples, as indices into the data set.
    `held_out_there` says that the devices hold a part of them out, `own_data_only` that there are none: everybody
    brings a file."""

    prepare: pb.Prepare
    shards: Sequence[Sequence[int]]
    held_out_there: bool = False
    own_data_only: bool = False
    max_length: int = 0
    """The most tokens of an example."""

    def order_for(self, clients: Sequence[int], *, trial: bool) -> pb.Prepare:
        """Make the order for a worker that hosts these clients, and is to try a batch of them or not."""
        order = pb.Prepare()
        order.CopyFrom(self.prepare)
        order.trial = trial
        order.shards.extend(pb.Shard(client=client, indices=self.shards[client]) for client in clients)
        return order

    def objection(self, clients: Sequence[int], examples: Mapping[int, int], *, own_data: bool) -> str:
        """Say what is wrong with the examples that a worker announces of its clients; "" for nothing."""
        if self.own_data_only and not own_data:
            return "it has no data of its own: start it with --data FILE"
        for client in clients:
            count, assigned = examples.get(client, 0), len(self.shards[client])
            right = count <= assigned if self.held_out_there else count == assigned
            if not (1 <= count <= MAX_EXAMPLES and (own_data or right)):
                must = f"1 to {MAX_EXAMPLES}" if own_data else f"the {assigned} that were dealt to it"
                must = f"1 to {must}" if self.held_out_there and not own_data else must
                return f"it has {count} examples of client {client}, must be {must}"
        return ""

    @staticmethod
    def objection_to_cut(cut: Mapping[int, CutRecords]) -> str:
        """Say what is wrong with the numbers of records that were cut; "" for nothing."""
        for client, counted in cut.items():
            if not 0 <= counted.cut <= counted.records <= 2 * MAX_EXAMPLES:
                return f"it has cut {counted.cut} of {counted.records} records of client {client}"
        return ""

    def max_held_out(self, client: int, trained_on: int, *, own_data: bool) -> int:
        """How many examples a client can hold out at most that trains on so many."""
        if own_data or client >= len(self.shards):
            return MAX_EXAMPLES
        return len(self.shards[client]) - trained_on
