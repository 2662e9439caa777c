"""Dealing out: a partition of all examples, no client empty, skewed as far as alpha says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federa.config import Partition
from federa.data.partition import partition_examples
from federa.errors import BadInput

LABELS = [number % 5 for number in range(1000)]


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=200),
    share=st.floats(0, 1),
    kind=st.sampled_from(["dirichlet", "iid", "quantity"]),
    alpha=st.floats(1e-300, 1e300) | st.floats(0.01, 100),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_example_goes_to_exactly_one_client_and_none_is_empty(
    labels: list[int], share: float, kind: str, alpha: float, seed: int
) -> None:
    clients = max(1, round(share * len(labels)))
    partition = Partition.model_validate({"kind": kind, "alpha": alpha})
    shards = partition_examples(labels, clients, partition, seed)
    assert len(shards) == clients and all(shards)
    assert sorted(index for shard in shards for index in shard) == list(range(len(labels)))
    assert all(shard == sorted(shard) and all(type(index) is int for index in shard) for shard in shards)
    assert partition_examples(labels, clients, partition, seed) == shards
    if kind == "iid":
        sizes = [len(shard) for shard in shards]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("kind", ["dirichlet", "iid", "quantity"])
def test_another_seed_deals_otherwise(kind: str) -> None:
    partition = Partition.model_validate({"kind": kind})
    assert partition_examples(LABELS, 10, partition, 1) != partition_examples(LABELS, 10, partition, 2)


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


@pytest.mark.parametrize("kind", ["dirichlet", "iid", "quantity"])
def test_more_clients_than_examples_are_refused(kind: str) -> None:
    partition = Partition.model_validate({"kind": kind})
    assert [len(shard) for shard in partition_examples([0, 1, 0], 3, partition, 0)] == [1, 1, 1]
    with pytest.raises(BadInput, match=r"^federation\.clients must be at most 3, the training examples, not 4$"):
        partition_examples([0, 1, 0], 4, partition, 0)
