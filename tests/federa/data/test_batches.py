"""Batches: every example once, little padding, and logits that padding does not change."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from classify import classify
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import ARCHITECTURES, tiny_tokenizer

from federa.data.batches import Batch, Examples, bucketed_batches, collate, tokenize
from federa.models.pretrained import load_pretrained


def _examples(lengths: list[int], pad_id: int = 0) -> Examples:
    rows = tuple([100 * number + position + 1 for position in range(length)] for number, length in enumerate(lengths))
    return Examples(token_ids=rows, targets=tuple(number % 3 for number in range(len(rows))), pad_id=pad_id)


@given(lengths=st.lists(st.integers(1, 64), max_size=200), size=st.integers(1, 20), seed=st.integers(0, 2**63 - 1))
def test_every_index_comes_once_in_full_batches(lengths: list[int], size: int, seed: int) -> None:
    batches = bucketed_batches(lengths, size, seed)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    sizes = sorted((len(batch) for batch in batches), reverse=True)
    assert sizes == [size] * (len(lengths) // size) + [len(lengths) % size] * (len(lengths) % size > 0)
    assert bucketed_batches(lengths, size, seed) == batches


def test_another_seed_gives_other_batches_in_another_order() -> None:
    rng = random.Random(0)
    lengths = [rng.randint(1, 64) for _ in range(1000)]
    one, other = bucketed_batches(lengths, 16, 1), bucketed_batches(lengths, 16, 2)
    assert {frozenset(batch) for batch in one}.isdisjoint({frozenset(batch) for batch in other})


def test_short_and_long_batches_come_in_no_order() -> None:
    # One pool: sorted inside, it would end every epoch on the longest documents.
    lengths = list(range(1, 513))
    sums = [sum(lengths[index] for index in batch) for batch in bucketed_batches(lengths, 16, 1)]
    assert sums != sorted(sums) and sums != sorted(sums, reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_padding_is_a_small_part(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.randint(3, 64) for _ in range(2000)]
    slots = sum(max(lengths[index] for index in batch) * len(batch) for batch in bucketed_batches(lengths, 16, seed))
    assert slots <= 1.05 * sum(lengths)
    # Batches at random would hold nearly half as much again.
    rng.shuffle(lengths)
    assert sum(max(lengths[start : start + 16]) * 16 for start in range(0, 2000, 16)) > 1.4 * sum(lengths)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8), pad_id=st.integers(0, 3))
def test_a_batch_holds_its_rows_and_masks_the_padding(lengths: list[int], pad_id: int) -> None:
    examples = _examples(lengths, pad_id)
    order = list(reversed(range(len(lengths))))
    batch = collate(examples, order)
    assert batch.inputs["input_ids"].shape == (len(lengths), max(lengths))
    assert batch.inputs["input_ids"].dtype == batch.targets.dtype == torch.int64
    assert batch.targets.tolist() == [examples.targets[index] for index in order]
    assert (batch.inputs["attention_mask"] is None) == (len(set(lengths)) == 1)
    for row, index in enumerate(order):
        length = lengths[index]
        assert batch.inputs["input_ids"][row, :length].tolist() == examples.token_ids[index]
        assert (batch.inputs["input_ids"][row, length:] == pad_id).all()
        if batch.inputs["attention_mask"] is not None:
            assert batch.inputs["attention_mask"][row].tolist() == [1] * length + [0] * (max(lengths) - length)


def test_tokens_are_counted_without_padding() -> None:
    examples = _examples([3, 5, 1])
    assert len(examples) == 3 and examples.tokens == 9


def test_moving_to_the_cpu_copies_nothing() -> None:
    batch = collate(_examples([2, 3]), [0, 1])
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    assert {moved.inputs["input_ids"].device.type, moved.targets.device.type} == {"meta"}
    assert moved.inputs["attention_mask"] is not None and moved.inputs["attention_mask"].device.type == "meta"
    unpadded: Batch = collate(_examples([2, 2]), [0, 1]).to(torch.device("meta"))
    assert unpadded.inputs["attention_mask"] is None


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_texts_are_tokenised_cut_and_not_padded(architecture: str) -> None:
    tokenizer = tiny_tokenizer(architecture)
    examples = tokenize(("a good film", "the bank " * 50, ""), (1, 0, 1), tokenizer, max_length=12)
    assert [len(row) for row in examples.token_ids] == [5, 12, 2]
    assert examples.token_ids[0] == tokenizer("a good film")["input_ids"]
    assert examples.token_ids[1][-1] == tokenizer.sep_token_id
    assert examples.targets == (1, 0, 1)
    assert examples.pad_id == tokenizer.pad_token_id == (1 if architecture == "roberta" else 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_does_not_change_the_logits(tiny_folder: Callable[[str], str], architecture: str) -> None:
    base = load_pretrained(tiny_folder(architecture), classify(3))
    base.model.eval()
    texts = ("a", "the match was good", "the bank and the market: shares fell, and fell, and fell again")
    examples = tokenize(texts, (0, 1, 2), base.tokenizer, 40)
    with torch.inference_mode():
        batch = collate(examples, [0, 1, 2])
        assert batch.inputs["attention_mask"] is not None
        together = base.model(**batch.inputs).logits
        for index in range(3):
            alone = collate(examples, [index])
            assert alone.inputs["attention_mask"] is None
            logits = base.model(**alone.inputs).logits[0]
            assert (logits - together[index]).abs().max() <= 1e-5 * max(1.0, float(logits.abs().max()))


def test_texts_that_lost_tokens_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, tokenizer = ("a good film", "the bank " * 50, "a bank", "film " * 13), tiny_tokenizer("bert")
    assert tokenize(texts, (1, 0, 1, 0), tokenizer, max_length=12).cut == 2
    assert tokenize(texts, (1, 0, 1, 0), tokenizer, max_length=200).cut == 0
    monkeypatch.setattr(type(tokenizer), "is_fast", False)  # one written in Python says less
    assert tokenize(texts, (1, 0, 1, 0), tokenizer, max_length=12).cut == 2
    assert tokenize(texts, (1, 0, 1, 0), tokenizer, max_length=200).cut == 0


def test_segments_are_padded_beside_their_tokens() -> None:
    examples = Examples(
        token_ids=([5, 6, 7], [8]), targets=(0, 1), pad_id=1, segments=([0, 1, 1], [0]), pad_left=True, cut=1
    )
    segments = collate(examples, [0, 1]).inputs["token_type_ids"]
    assert segments is not None and segments.tolist() == [[0, 1, 1], [0, 0, 0]]
    assert examples.select([1]).segments == ([0],)
    assert "token_type_ids" not in collate(_examples([2]), [0]).inputs


def test_tokens_are_held_once_and_in_few_bytes() -> None:
    rows = [[30_000 + number % 7, *range(100)] for number in range(200)]
    examples = Examples(token_ids=rows, targets=[[0] * 101] * 200, segments=[[1] * 101] * 200, pad_id=0)
    assert examples.token_ids == rows and examples.targets == [[0] * 101] * 200
    # A list has 8 bytes for each number, and another 28 for one above 256.
    assert [held.nbytes for held in (examples.token_ids, examples.targets, examples.segments)] == [200 * (202 + 16)] * 3
    part = examples.select([3, 5])
    for held, whole in (
        (part.token_ids, examples.token_ids), (part.targets, examples.targets), (part.segments, examples.segments)
    ):  # fmt: skip
        assert held._values is whole._values and list(held) == [whole[3], whole[5]]


def test_many_texts_are_tokenised_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    texts = ["good film", "a bad match " * 30, "", "the bank"] * 3
    whole = tokenize(texts, range(12), tokenizer, 8)
    monkeypatch.setattr("federa.data.batches._AT_ONCE", 5)
    some = tokenize(texts, range(12), tokenizer, 8)
    assert (some.token_ids, some.targets, some.cut) == (whole.token_ids, whole.targets, whole.cut) and some.cut == 3


def test_the_bytes_of_the_tokens_are_known() -> None:
    assert _examples([3, 5]).nbytes == 8 * 2 + 2 * 16
