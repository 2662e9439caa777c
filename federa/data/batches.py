"""Token ids in batches: of like lengths, padded only as far as the longest of a batch needs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from federa.data.dataset import Dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

POOL_BATCHES = 32
"""Lengths are sorted inside pools of so many batches: nearly no padding, and the order stays random."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Tokenised documents, unpadded, with their labels."""

    token_ids: tuple[list[int], ...]
    labels: tuple[int, ...]
    pad_id: int

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def tokens(self) -> int:
        """How many tokens there are, padding apart."""
        return sum(map(len, self.token_ids))


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """`input_ids` (batch x longest), `labels` (batch); `attention_mask` is None where nothing is padded."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    labels: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        if device.type == "cpu":
            return self
        mask = self.attention_mask
        return Batch(
            input_ids=self.input_ids.to(device, non_blocking=True),
            attention_mask=None if mask is None else mask.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )


def tokenize(corpus: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
    """Token ids of every document, cut at `max_length` tokens."""
    encoded = tokenizer(list(corpus.texts), truncation=True, max_length=max_length, padding=False)
    return Examples(
        token_ids=tuple(encoded["input_ids"]), labels=corpus.labels, pad_id=int(tokenizer.pad_token_id or 0)
    )


def bucketed_batches(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """Indices in batches of like lengths, in random order: each exactly once, all batches full but one."""
    rng = random.Random(seed)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    pool = batch_size * POOL_BATCHES
    batches: list[list[int]] = []
    for first in range(0, len(order), pool):
        near = sorted(order[first : first + pool], key=lambda index: lengths[index])
        batches.extend(near[start : start + batch_size] for start in range(0, len(near), batch_size))
    rng.shuffle(batches)
    return batches


def collate(examples: Examples, indices: Sequence[int]) -> Batch:
    """One padded batch of these examples."""
    rows = [examples.token_ids[index] for index in indices]
    longest = max(map(len, rows))
    padded = any(len(row) < longest for row in rows)
    input_ids = torch.tensor([row + [examples.pad_id] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]) if padded else None
    return Batch(
        input_ids=input_ids, attention_mask=mask, labels=torch.tensor([examples.labels[index] for index in indices])
    )
