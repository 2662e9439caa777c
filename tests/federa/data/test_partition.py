"""Dealing out: a partition of all examples, no client empty, skewed as far as alpha says."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federa.config import Partition
from federa.data.partition import deal_alike, partition_examples
from federa.errors import BadInput

LABELS = [number % 5 for number in range(1000)]


KINDS = ("dirichlet", "iid", "quantity", "shards", "natural")


def _partition(kind: str, **fields: object) -> Partition:
    column = {"column": "author"} if kind == "natural" else {}
    return Partition.model_validate({"kind": kind, **column, **fields})


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=200),
    share=st.floats(0, 1),
    kind=st.sampled_from(KINDS),
    alpha=st.floats(1e-300, 1e300) | st.floats(0.01, 100),
    pieces=st.integers(1, 4),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_example_goes_to_exactly_one_client_and_none_is_empty(
    labels: list[int], share: float, kind: str, alpha: float, pieces: int, seed: int
) -> None:
    most = len(set(labels)) if kind == "natural" else len(labels)
    clients = max(1, round(share * most))
    partition = _partition(kind, alpha=alpha, shards_per_client=pieces)
    shards = partition_examples(labels, clients, partition, seed)
    assert len(shards) == clients and all(shards)
    assert sorted(index for shard in shards for index in shard) == list(range(len(labels)))
    assert all(shard == sorted(shard) and all(type(index) is int for index in shard) for shard in shards)
    assert partition_examples(labels, clients, partition, seed) == shards
    sizes = [len(shard) for shard in shards]
    if kind == "iid":
        assert max(sizes) - min(sizes) <= 1
    if kind == "shards" and len(labels) >= clients * pieces:
        assert max(sizes) - min(sizes) <= pieces
    if kind == "natural":
        owned = [{labels[index] for index in shard} for shard in shards]
        assert sum(map(len, owned)) == len(set(labels)) and max(map(len, owned)) - min(map(len, owned)) <= 1


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=100),
    others=st.lists(st.integers(0, 6), max_size=100),
    clients=st.integers(1, 12),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**63 - 1),
)
def test_a_part_of_its_own_is_dealt_out_whole_in_the_shares_of_the_training_part(
    labels: list[int], others: list[int], clients: int, kind: str, seed: int
) -> None:
    clients = min(clients, len(set(labels)) if kind == "natural" else len(labels))
    shards = partition_examples(labels, clients, _partition(kind), seed)
    dealt = deal_alike(labels, shards, others, seed)
    assert sorted(position for positions in dealt for position in positions) == list(range(len(others)))
    assert deal_alike(labels, shards, others, seed) == dealt
    owns = [{labels[index] for index in shard} for shard in shards]
    for own, positions in zip(owns, dealt, strict=True):
        assert all(others[position] in own for position in positions if others[position] in set(labels))
    for stratum in set(others) & set(labels):
        for shard, positions in zip(shards, dealt, strict=True):
            share = sum(labels[index] == stratum for index in shard) / labels.count(stratum)
            got = sum(others[position] == stratum for position in positions)
            assert abs(got - share * others.count(stratum)) <= 1


def test_the_partition_of_a_seed_is_the_same_on_every_machine_and_in_every_version() -> None:
    labels = [(number * 7 + number // 13) % 5 for number in range(500)]
    found = {}
    for kind in KINDS:
        shards = partition_examples(labels, 5 if kind == "natural" else 12, _partition(kind, alpha=0.3), 7)
        found[kind] = hashlib.sha256(json.dumps(shards).encode()).hexdigest()[:16]
    assert found == {
        "dirichlet": "4f7b70787949a526",
        "iid": "c9fe9ae46879a02f",
        "quantity": "ed053997b3d9a109",
        "shards": "8b96d8767bd8978d",
        "natural": "9d1e7988146d9948",
    }


def test_a_client_of_shards_has_few_labels() -> None:
    shards = partition_examples(LABELS, 20, Partition(kind="shards", shards_per_client=2), 3)
    assert {len(shard) for shard in shards} == {50}
    # 40 pieces of 25, of 200 records a label: a piece has one label.
    assert all(len({LABELS[index] for index in shard}) <= 2 for shard in shards)
    one = partition_examples(LABELS, 5, Partition(kind="shards", shards_per_client=1), 3)
    assert sorted(LABELS[shard[0]] for shard in one) == [0, 1, 2, 3, 4] and max(map(len, one)) == 200


def test_fewer_values_than_clients_are_refused() -> None:
    assert [len(shard) for shard in partition_examples([0, 1, 0], 2, _partition("natural"), 0)] in ([1, 2], [2, 1])
    with pytest.raises(BadInput) as caught:
        partition_examples([0, 1, 0], 3, _partition("natural"), 0)
    assert str(caught.value) == (
        "federation.clients must be at most 2, the values of the column 'author' (data.partition.column) in the "
        "training part, not 3"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_deals_otherwise(kind: str) -> None:
    one, other = (partition_examples(LABELS, 4, _partition(kind), seed) for seed in (1, 3))
    assert one != other


def _label_skew(shards: list[list[int]]) -> float:
    """The mean share of a client's most frequent label: 0.2 where all are alike, 1 where each has one only."""
    return float(np.mean([max(Counter(LABELS[index] for index in shard).values()) / len(shard) for shard in shards]))


def _size_skew(shards: list[list[int]]) -> float:
    return float(np.std([len(shard) for shard in shards]) / np.mean([len(shard) for shard in shards]))


def _mean(skew, kind: str, alpha: float) -> float:
    partition = Partition.model_validate({"kind": kind, "alpha": alpha})
    return float(np.mean([skew(partition_examples(LABELS, 10, partition, seed)) for seed in range(10)]))


def test_a_small_alpha_skews_labels_and_a_large_one_does_not() -> None:
    skews = [_mean(_label_skew, "dirichlet", alpha) for alpha in (0.05, 0.3, 3, 1000)]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.7 and skews[-1] < 0.25


def test_quantity_skews_sizes_and_keeps_the_mix_of_labels() -> None:
    assert _mean(_size_skew, "quantity", 0.3) > 1 > 0.1 > _mean(_size_skew, "quantity", 1000)
    shards = partition_examples(LABELS, 4, Partition(kind="quantity", alpha=2), 0)
    for shard in shards:
        assert len(shard) > 50
        for count in Counter(LABELS[index] for index in shard).values():
            assert abs(count / len(shard) - 0.2) < 0.12


def test_iid_has_no_use_for_alpha() -> None:
    one, other = (partition_examples(LABELS, 7, Partition(kind="iid", alpha=alpha), 3) for alpha in (0.01, 100))
    assert one == other
    assert _mean(_label_skew, "iid", 1) < 0.3


@pytest.mark.parametrize("kind", ["dirichlet", "iid", "quantity", "shards"])
def test_more_clients_than_examples_are_refused(kind: str) -> None:
    partition = Partition.model_validate({"kind": kind})
    assert [len(shard) for shard in partition_examples([0, 1, 0], 3, partition, 0)] == [1, 1, 1]
    with pytest.raises(BadInput, match=r"^federation\.clients must be at most 3, the training examples, not 4$"):
        partition_examples([0, 1, 0], 4, partition, 0)
