"""Token classification: words without a token, long sentences, the loss, and metrics that are seqeval's."""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seqeval import metrics as seqeval
from tagged import tagger
from tiny_models import tiny_tokenizer

from federa.data.batches import Examples
from federa.tasks.metric import total
from federa.tasks.tagged_sentences import TaggedSentence
from federa.tasks.token_classification import TokenClassification
from federa.tasks.token_data import TokenData

TASK = tagger("x", "y")
PLAIN = tagger("O", "x", "y", scheme="plain")


def sentence(words: str, *tags: int) -> TaggedSentence:
    return TaggedSentence(tuple(words.split(" ")), tags)


def model_of(examples: Examples, columns: list[list[int]], width: int) -> Callable[..., SimpleNamespace]:
    """A model that says these columns for the tokens of each example, by its ids."""
    said = {tuple(ids): row for ids, row in zip(examples.token_ids, columns, strict=True)}

    class Model(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> SimpleNamespace:
            logits = torch.zeros(*input_ids.shape, width)
            for index, row in enumerate(input_ids.tolist()):
                size = len(row) if attention_mask is None else int(attention_mask[index].sum())
                for place, column in enumerate(said[tuple(row[:size])]):
                    logits[index, place, column] = 1
            return SimpleNamespace(logits=logits)

    return Model()


def test_the_first_token_of_a_word_is_asked_and_learned() -> None:
    examples = TASK.encode([sentence("the xyz team", 0, 1, 2), sentence("a", 3)], tiny_tokenizer(), 16)
    batch = TASK.collate(examples, [0, 1])
    assert batch.targets.tolist() == [[[0, 1, 2], [1, 2, 5]], [[3, -100, -100], [1, -1, -1]]]
    logits = torch.randn(2, 7, 5, dtype=torch.bfloat16)
    probabilities = logits.float().log_softmax(-1)
    first = -(probabilities[0, 1, 0] + probabilities[0, 2, 1] + probabilities[0, 5, 2]) / 3
    assert TASK.loss(SimpleNamespace(logits=logits), batch) == pytest.approx(float(first - probabilities[1, 1, 3]))


def test_padding_on_the_left_moves_the_places() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "left"
    examples = TASK.encode([sentence("the xyz team", 0, 1, 2), sentence("a", 3)], tokenizer, 16)
    batch = TASK.collate(examples, [1, 0])
    assert batch.targets[:, 1].tolist() == [[5, -1, -1], [1, 2, 5]]
    assert batch.inputs["input_ids"][0, 5] == examples.token_ids[1][1]


def test_a_sentence_without_a_token_has_no_loss_and_is_counted() -> None:
    examples = TASK.encode([sentence("\u200b", 1)], tiny_tokenizer(), 16)
    batch = TASK.collate(examples, [0])
    logits = torch.zeros(1, 2, 5, requires_grad=True)
    loss = TASK.loss(SimpleNamespace(logits=logits), batch)
    loss.backward()
    assert float(loss.detach()) == 0 and not logits.grad.any()
    counters = TASK.count(SimpleNamespace(logits=logits), batch)
    assert (counters["gold_entities"], counters["predicted_entities"], counters["words"]) == (1, 0, 1)


def test_what_is_cut_is_counted_said_and_missed(caplog: pytest.LogCaptureFixture) -> None:
    records = [sentence("a " * 7 + "team", 1, 2, 0, 0, 0, 0, 3, 4), sentence("a a", 1, 0)]
    with caplog.at_level(logging.INFO, "federa"):
        examples = TASK.encode(records, tiny_tokenizer(), 9)
    assert examples.cut == 1
    assert "data: 1 of 3 entities lie behind 9 tokens (data.max_length): they count as not found" in caplog.text
    right = [[0, 1, 2, 0, 0, 0, 0, 3, 0], [0, 1, 0, 0]]
    counters = TASK.evaluate(model_of(examples, right, 5), examples)
    # The part of the second entity that is left is none of the sentence's: seqeval sees y of one word there.
    assert counters == {
        "correct_entities": 2, "predicted_entities": 3, "gold_entities": 3, "correct_words": 9, "words": 10,
        "examples": 2,
    }  # fmt: skip


def test_a_word_of_which_nothing_is_left_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "federa"):
        examples = TASK.encode([sentence("the \u200b team", 1, 0, 3)], tiny_tokenizer(), 16)
    assert "the tokenizer makes nothing of 1 words: they are taken to be O" in caplog.text
    counters = TASK.evaluate(model_of(examples, [[0, 1, 3, 0]], 5), examples)
    assert counters["correct_entities"] == 2 and counters["correct_words"] == 3


@st.composite
def predictions(draw: st.DrawFn) -> tuple[list[TaggedSentence], list[list[int]], int]:
    """Records, what a model says of their words, and the most tokens."""
    words = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8)
    pairs = draw(st.lists(words, min_size=1, max_size=6))
    records = []
    for number, pair in enumerate(pairs):
        gold = [tag for tag, _ in pair]
        # A record's tags are valid IOB2: I follows its own type.
        valid = [
            tag - 1 if tag in (2, 4) and (not i or gold[i - 1] not in (tag, tag - 1)) else tag
            for i, tag in enumerate(gold)
        ]
        records.append(TaggedSentence((str(number), *["a"] * (len(pair) - 1)), tuple(valid)))
    return records, [[said for _, said in pair] for pair in pairs], draw(st.integers(5, 10))


@given(predictions(), st.integers(0, 99))
def test_metrics_are_seqevals_on_the_same_predictions(
    drawn: tuple[list[TaggedSentence], list[list[int]], int], seed: int
) -> None:
    records, said, most = drawn
    examples = TASK.encode(records, tiny_tokenizer(), most)
    columns = []
    for ids, words in zip(examples.token_ids, said, strict=True):
        columns.append([0, *words[: len(ids) - 2], 0])
    model = model_of(examples, columns, 5)
    names = ("O", "B-x", "I-x", "B-y", "I-y")
    gold = [[names[tag] for tag in record.tags] for record in records]
    # What was cut is O.
    found = [[names[tag] for tag in words[: most - 2]] + ["O"] * (len(words) - (most - 2)) for words in said]
    devices: list[list[int]] = [[], [], []]
    for index, device in enumerate(random.Random(seed).choices(range(3), k=len(records))):
        devices[device].append(index)
    pool = TASK.evaluate(model, examples, batch_size=2)
    summed = total(TASK.evaluate(model, examples.select(part), batch_size=1) for part in devices if part)
    assert pool == summed and not TASK.check(pool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = {
            "entity_f1": seqeval.f1_score(gold, found),
            "entity_precision": seqeval.precision_score(gold, found),
            "entity_recall": seqeval.recall_score(gold, found),
            "word_accuracy": seqeval.accuracy_score(gold, found),
        }
    assert {metric.name: metric.value(pool) for metric in TASK.metrics} == pytest.approx(wanted)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=9))
def test_of_plain_tags_entities_are_runs_of_one_tag_as_seqeval_reads_iob1(pairs: list[tuple[int, int]]) -> None:
    names = ("O", "I-x", "I-y")
    task = TokenClassification(TokenData(labels=("O", "x", "y"), scheme="plain"))
    records = [TaggedSentence(("a",) * len(pairs), tuple(2 * tag for tag, _ in pairs))]
    examples = task.encode(records, tiny_tokenizer(), 16)
    counters = task.evaluate(model_of(examples, [[0, *(said for _, said in pairs), 0]], 3), examples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = seqeval.f1_score([[names[tag] for tag, _ in pairs]], [[names[said] for _, said in pairs]])
    assert task.metrics[0].value(counters) == pytest.approx(wanted)


def test_nothing_to_find_and_nothing_found_are_0() -> None:
    examples = TASK.encode([sentence("a a", 0, 0)], tiny_tokenizer(), 16)
    counters = TASK.evaluate(model_of(examples, [[0, 0, 0, 0]], 5), examples)
    assert [metric.value(counters) for metric in TASK.metrics] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"correct_entities": 3}, "3 correct_entities among 2 predicted_entities"),
        ({"predicted_entities": 4, "correct_entities": 4}, "4 correct_entities among 3 gold_entities"),
        ({"gold_entities": 9}, "9 gold_entities among 8 words"),
        ({"predicted_entities": 9}, "9 predicted_entities among 8 words"),
        ({"correct_words": 9}, "9 correct_words among 8 words"),
        ({"words": 8.5}, "words is 8.5"),
        ({"correct_entities": -1}, "correct_entities is -1"),
        ({"examples": 9}, "9 examples among 8 words"),
        ({"examples": 0}, "8 words in no example"),
        ({"gold_entities": float("nan")}, "gold_entities is nan"),
    ],
)
def test_counters_that_cannot_be_are_refused(changes: dict[str, float], words: str) -> None:
    counters = {
        "correct_entities": 1, "predicted_entities": 2, "gold_entities": 3, "correct_words": 6, "words": 8,
        "examples": 2,
    }  # fmt: skip
    assert TASK.check(counters) == "" and TASK.check(dict.fromkeys(counters, 0.0)) == ""
    assert TASK.check({**counters, **changes}) == words


def test_a_split_goes_by_the_rarest_type_of_a_sentence() -> None:
    records = [sentence("a a", 1, 3), sentence("a", 1), sentence("a", 0), sentence("a a", 1, 2)]
    assert TASK.strata(records) == [2, 1, 0, 1]
    assert TASK.class_counts(records) == {"x": 3, "y": 1} and TASK.class_names() is None
    assert TASK.identity(records[0]) == TASK.embedded_text(records[0]) == "a a"


@pytest.mark.parametrize("task", [TASK, PLAIN])
def test_made_up_sentences_can_be_encoded(task: TokenClassification) -> None:
    long, short = task.made_up(12)
    examples = task.encode([long, short], tiny_tokenizer(), 12)
    assert max(examples.lengths) == 12
    batch = task.collate(examples, [0, 1])
    width = len(task.tag_set.names)
    assert int(batch.targets[:, 0].max()) == width - 1
