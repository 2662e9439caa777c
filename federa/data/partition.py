"""Partition of the training part over the clients: skewed by stratum (Dirichlet), alike (IID), or in quantity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from federa.data.section import Partition
from federa.errors import BadInput


def partition_examples(strata: Sequence[int], clients: int, partition: Partition, seed: int) -> list[list[int]]:
    """For each client the positions in `strata` that it owns: a partition of all of them, no client empty.

    dirichlet: for each stratum, shares drawn from Dirichlet(alpha) over the clients (arXiv 1909.06335, as FedNLP does).
    iid: a shuffled deck dealt evenly. quantity: client sizes drawn from Dirichlet(alpha), strata alike.
    Raises BadInput when there are fewer examples than clients.
    """
    if len(strata) < clients:
        raise BadInput(f"federation.clients must be at most {len(strata)}, the training examples, not {clients}")
    rng = np.random.default_rng(seed)
    if partition.kind == "dirichlet":
        groups = [np.flatnonzero(np.asarray(strata) == stratum) for stratum in sorted(set(strata))]
    else:
        groups = [np.arange(len(strata))]
    shards: list[list[int]] = [[] for _ in range(clients)]
    for group in groups:
        even = partition.kind == "iid"
        shares = np.full(clients, 1 / clients) if even else rng.dirichlet(np.full(clients, partition.alpha))
        cuts = np.round(np.cumsum(shares)[:-1] * len(group)).astype(int)
        for shard, part in zip(shards, np.split(rng.permutation(group), cuts), strict=True):
            shard.extend(map(int, part))
    for shard in shards:
        # A strong skew leaves clients without any example; each takes one from whoever has most.
        if not shard:
            shard.append(max(shards, key=len).pop())
    return [sorted(shard) for shard in shards]
