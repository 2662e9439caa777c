"""Token ids in batches: of like lengths, padded only as far as the longest of a batch needs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from federa.data.packed_rows import PackedRows

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

POOL_BATCHES = 32
"""Lengths are sorted inside pools of so many batches: nearly no padding, and the order stays random."""
_AT_ONCE = 1024
"""So many texts are given to a tokenizer together: what it makes of one is many times the token ids, until it ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Tokenised texts, unpadded, each with its target: a number, or what else the task makes of it. `pad_left`: the
    model looks at a text's end (XLNet), so padding goes before it. `segments` has a token's segment, for models that
    tell the two texts of a pair apart by it. `cut` records lost tokens, since they have more than the most.

    Token ids, segments and targets that are lists of whole numbers are kept packed, whatever they are given as."""

    token_ids: Sequence[list[int]]
    targets: Sequence[Any]
    pad_id: int
    pad_left: bool = False
    segments: Sequence[list[int]] | None = None
    cut: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "token_ids", PackedRows.pack(self.token_ids))
        if self.segments is not None:
            object.__setattr__(self, "segments", PackedRows.pack(self.segments))
        if self.targets and all(
            isinstance(target, list) and set(map(type, target)) <= {int} for target in self.targets
        ):
            object.__setattr__(self, "targets", PackedRows.pack(self.targets))

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def lengths(self) -> list[int]:
        """Each example's length in tokens."""
        return _packed(self.token_ids).lengths

    @property
    def tokens(self) -> int:
        """How many tokens there are, padding apart."""
        return sum(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays of token ids: a selection's are those of all that it was selected from."""
        return _packed(self.token_ids).nbytes

    def select(self, indices: Sequence[int]) -> Examples:
        """The examples at these indices, which share the tokens. How many records were cut is known of all of them
        alone."""
        rows, targets, segments = _packed(self.token_ids), self.targets, self.segments
        return replace(
            self,
            token_ids=rows.select(indices),
            targets=_packed(targets).select(indices)
            if isinstance(targets, PackedRows)
            else tuple(targets[index] for index in indices),
            segments=None if segments is None else _packed(segments).select(indices),
            cut=0,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """`inputs` are the model's arguments: input_ids, attention_mask (None where nothing is padded) and, where the
    examples have segments, token_type_ids, each batch x longest.
    `targets` has the batch's size first."""

    inputs: Mapping[str, torch.Tensor | None]
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Batch:
        if device.type == "cpu":
            return self
        return Batch(
            inputs={
                name: None if value is None else value.to(device, non_blocking=True)
                for name, value in self.inputs.items()
            },
            targets=self.targets.to(device, non_blocking=True),
        )


def tokenize(
    texts: Sequence[str], targets: Sequence[Any], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Examples:
    """Token ids of every text, cut at `max_length` tokens, with its target."""
    pad_id = int(tokenizer.pad_token_id or 0)
    rows: list[NDArray[np.int32]] = []
    cut = 0
    for first in range(0, len(texts), _AT_ONCE):
        some = list(texts[first : first + _AT_ONCE])
        encoded = tokenizer(some, truncation=True, max_length=max_length, padding=False)
        # Of an empty text a decoder's tokenizer makes nothing at all: no model takes that.
        rows.extend(np.asarray(row or [pad_id], dtype=np.int32) for row in encoded["input_ids"])
        cut += _count_cut(some, encoded, tokenizer, max_length)
    return Examples(
        token_ids=PackedRows.pack(rows),
        targets=tuple(targets),
        pad_id=pad_id,
        pad_left=tokenizer.padding_side == "left",
        cut=cut,
    )


def _count_cut(texts: Sequence[str], encoded: Any, tokenizer: PreTrainedTokenizerBase, max_length: int) -> int:
    """How many texts lost tokens when they were encoded."""
    if tokenizer.is_fast:
        return sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    full = [text for text, row in zip(texts, encoded["input_ids"], strict=True) if len(row) >= max_length]
    if not full:
        return 0
    return sum(len(row) > max_length for row in tokenizer(full, truncation=False, verbose=False)["input_ids"])


def _packed(rows: Sequence[Any]) -> PackedRows:
    assert isinstance(rows, PackedRows), "packed by __post_init__"
    return rows


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
    """One padded batch of these examples, as long as its longest. Targets are numbers, or lists of one length: a
    task whose targets differ in length has its own."""
    rows = [examples.token_ids[index] for index in indices]
    longest = max(map(len, rows))
    padded = any(len(row) < longest for row in rows)

    def filled(row: list[int], value: int) -> list[int]:
        padding = [value] * (longest - len(row))
        return padding + row if examples.pad_left else row + padding

    input_ids = torch.tensor([filled(row, examples.pad_id) for row in rows])
    mask = torch.tensor([filled([1] * len(row), 0) for row in rows]) if padded else None
    inputs: dict[str, torch.Tensor | None] = {"input_ids": input_ids, "attention_mask": mask}
    if examples.segments is not None:
        inputs["token_type_ids"] = torch.tensor([filled(examples.segments[index], 0) for index in indices])
    return Batch(
        inputs=inputs,
        targets=torch.tensor([examples.targets[index] for index in indices]),
    )
