"""Partition of the training part over the clients: skewed by stratum, in quantity, as the records come, or alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from federa.data.section import Partition
from federa.errors import BadInput


def partition_examples(strata: Sequence[int], clients: int, partition: Partition, seed: int) -> list[list[int]]:
    """For each client the positions in `strata` that it owns: a partition of all of them, no client empty. What a
    stratum is, the caller decides: a class, a cluster, or for `natural` a value of the column.

    dirichlet: for each stratum, shares drawn from Dirichlet(alpha) over the clients (arXiv 1905.12022, and arXiv
    2102.02079 under the name of label distribution skew). FedNLP (arXiv 2104.08815) draws for each client the shares of
    the strata instead (arXiv 1909.06335), and fills all clients to the same size.
    quantity: client sizes drawn from Dirichlet(alpha), strata alike (arXiv 2102.02079 and 2104.08815, quantity skew).
    shards: sorted by stratum and cut into equal pieces, of which each client gets `shards_per_client` at random (arXiv
    1602.05629, section 3). natural: each stratum whole, as LEAF does (arXiv 1812.01097); where there are more of them
    than clients, dealt like cards from a shuffled deck. iid: a shuffled deck dealt evenly.

    Raises BadInput when there are fewer examples, or for `natural` fewer strata, than clients.
    """
    if len(strata) < clients:
        raise BadInput(f"federation.clients must be at most {len(strata)}, the training examples, not {clients}")
    rng = np.random.default_rng(seed)
    if partition.kind == "natural":
        shards = _dealt_whole(strata, clients, partition.column, rng)
    elif partition.kind == "shards":
        shards = _dealt_in_pieces(strata, clients, partition.shards_per_client, rng)
    else:
        shards = _dealt_in_shares(strata, clients, partition, rng)
    for shard in shards:
        # A strong skew leaves clients without any example; each takes one from whoever has most.
        if not shard:
            shard.append(max(shards, key=len).pop())
    return [sorted(shard) for shard in shards]


def deal_alike(
    strata: Sequence[int], shards: Sequence[Sequence[int]], others: Sequence[int], seed: int
) -> list[list[int]]:
    """For each client the positions in `others` that go to whoever owns `shards` of `strata`: of each stratum in the
    shares in which the clients own it, and of one that nobody owns by how much they own in all. Each position goes to
    exactly one client; a client may get none."""
    rng = np.random.default_rng(seed)
    owner = np.empty(len(strata), dtype=np.int64)
    for client, shard in enumerate(shards):
        owner[list(shard)] = client
    owners = {stratum: owner[group] for stratum, group in _by_stratum(strata)}
    dealt: list[list[int]] = [[] for _ in shards]
    for stratum, group in _by_stratum(others):
        shares = np.bincount(owners.get(stratum, owner), minlength=len(shards))
        # In an order of its own for each stratum: not the same clients get what rounding leaves over.
        order = rng.permutation(len(shards))
        for client, part in zip(order, _cut(rng.permutation(group), shares[order]), strict=True):
            dealt[client].extend(map(int, part))
    return [sorted(positions) for positions in dealt]


def _dealt_in_shares(
    strata: Sequence[int], clients: int, partition: Partition, rng: np.random.Generator
) -> list[list[int]]:
    skewed = partition.kind == "dirichlet"
    groups = [group for _, group in _by_stratum(strata)] if skewed else [np.arange(len(strata))]
    shards: list[list[int]] = [[] for _ in range(clients)]
    for group in groups:
        even = partition.kind == "iid"
        shares = np.full(clients, 1 / clients) if even else rng.dirichlet(np.full(clients, partition.alpha))
        cuts = np.round(np.cumsum(shares)[:-1] * len(group)).astype(int)
        for shard, part in zip(shards, np.split(rng.permutation(group), cuts), strict=True):
            shard.extend(map(int, part))
    return shards


def _dealt_in_pieces(strata: Sequence[int], clients: int, each: int, rng: np.random.Generator) -> list[list[int]]:
    shuffled = rng.permutation(len(strata))
    in_order = shuffled[np.argsort(np.asarray(strata)[shuffled], kind="stable")]
    pieces = np.array_split(in_order, clients * each)
    owners = rng.permutation(len(pieces)).reshape(clients, each)
    return [[int(position) for piece in owned for position in pieces[piece]] for owned in owners]


def _dealt_whole(strata: Sequence[int], clients: int, column: str, rng: np.random.Generator) -> list[list[int]]:
    groups = [group for _, group in _by_stratum(strata)]
    if len(groups) < clients:
        raise BadInput(
            f"federation.clients must be at most {len(groups)}, the values of the column {column!r} "
            f"(data.partition.column) in the training part, not {clients}"
        )
    shards: list[list[int]] = [[] for _ in range(clients)]
    for place, which in enumerate(rng.permutation(len(groups))):
        shards[place % clients].extend(map(int, groups[which]))
    return shards


def _by_stratum(strata: Sequence[int]) -> list[tuple[int, NDArray[np.int64]]]:
    """Every stratum in ascending order, with its positions."""
    found = np.asarray(strata, dtype=np.int64)
    order = np.argsort(found, kind="stable")
    names, firsts = np.unique(found[order], return_index=True)
    return list(zip(map(int, names), np.split(order, firsts[1:]), strict=True)) if len(found) else []


def _cut(group: NDArray[np.int64], shares: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The group in pieces whose sizes are as these shares."""
    return np.split(group, np.round(np.cumsum(shares)[:-1] / shares.sum() * len(group)).astype(int))
