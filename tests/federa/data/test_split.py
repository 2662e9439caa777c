"""Training, validation and test part: stratified, whole, and the same wherever and however the corpus was read."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from classify import classify, dataset_of, labels_of, texts_of
from hypothesis import given
from hypothesis import strategies as st

from federa.data.dataset import Dataset
from federa.data.split import Split, split_examples
from federa.errors import BadInput

_corpus = dataset_of


def split_dataset(dataset: Dataset, validation: float, test: float, *, whole: bool = True) -> Split:
    task = classify(4)
    identities = [task.identity(record) for record in dataset.records]
    return split_examples(task.strata(dataset.records), identities, validation, test, whole=whole)


def _parts(split: Split) -> dict[str, tuple[int, ...]]:
    return {"train": split.train, "validation": split.validation, "test": split.test}


# How often each text comes; a copy keeps its label.
CORPORA = st.lists(st.sampled_from([1, 1, 1, 2, 5]), min_size=80, max_size=120).map(
    lambda copies: _corpus([(f"document {n}", n % 4) for n, times in enumerate(copies) for _ in range(times)])
)


@given(corpus=CORPORA, validation=st.floats(0.1, 0.4), test=st.floats(0.1, 0.4))
def test_the_parts_are_disjoint_whole_and_stratified(corpus: Dataset, validation: float, test: float) -> None:
    split = split_dataset(corpus, validation, test)
    assert sorted([*split.train, *split.validation, *split.test]) == list(range(len(corpus)))
    for part in _parts(split).values():
        assert list(part) == sorted(part) and part
    copies = Counter(texts_of(corpus))
    for label in range(4):
        members = [index for index in range(len(corpus)) if labels_of(corpus)[index] == label]
        largest = max((copies[texts_of(corpus)[index]] for index in members), default=0)
        for fraction, part in ((validation, split.validation), (test, split.test)):
            found = sum(labels_of(corpus)[index] == label for index in part)
            # Within one document, or one group of copies where the last did not fit.
            assert abs(found - fraction * len(members)) <= max(1, largest)


@given(corpus=CORPORA)
def test_copies_of_a_text_stay_together(corpus: Dataset) -> None:
    where = {index: name for name, part in _parts(split_dataset(corpus, 0.2, 0.2)).items() for index in part}
    for text in set(texts_of(corpus)):
        assert len({where[index] for index, other in enumerate(texts_of(corpus)) if other == text}) == 1


def test_without_copies_each_part_of_each_label_is_within_one_document() -> None:
    corpus = _corpus([(f"text {number}", number % 3) for number in range(1000)])
    split = split_dataset(corpus, 0.15, 0.15)
    for label in range(3):
        total = labels_of(corpus).count(label)
        for part in (split.validation, split.test):
            assert abs(sum(labels_of(corpus)[index] == label for index in part) - 0.15 * total) <= 1


@given(corpus=CORPORA, order=st.randoms(), contradict=st.booleans())
def test_the_order_of_files_does_not_matter(corpus: Dataset, order: random.Random, contradict: bool) -> None:
    rows = list(corpus.records)
    if contradict:
        # Copies of one text under different labels.
        rows += [(text, (label + 1) % 4) for text, label in rows[:5]]
    shuffled = rows.copy()
    order.shuffle(shuffled)
    for name, part in _parts(split_dataset(_corpus(rows), 0.2, 0.2)).items():
        other = _parts(split_dataset(_corpus(shuffled), 0.2, 0.2))[name]
        assert Counter(rows[index] for index in part) == Counter(shuffled[index] for index in other)


def test_no_generators_state_enters(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = _corpus([(f"text {number}", number % 4) for number in range(100)])
    random.seed(1)
    first = split_dataset(corpus, 0.2, 0.2)
    random.seed(2)
    assert split_dataset(corpus, 0.2, 0.2) == first


def test_this_split_stays_as_it_is() -> None:
    # Results of different versions are compared: a change of the split changes all of them.
    corpus = _corpus([(f"text {number}", number % 2) for number in range(20)], classes=2)
    split = split_dataset(corpus, 0.2, 0.2)
    assert split.validation == (7, 10, 14, 17)
    assert split.test == (6, 12, 13, 19)


def test_too_few_documents_are_refused_with_the_part_that_would_be_empty() -> None:
    with pytest.raises(BadInput, match=r"^data: 2 documents are too few: the test part would be empty$"):
        split_dataset(_corpus([("a", 0), ("b", 1)]), 0.15, 0.15)
    with pytest.raises(BadInput, match=r"would be empty$"):
        split_dataset(_corpus([("the same", 0)] * 100), 0.15, 0.15)


def test_of_one_clients_documents_a_held_out_part_may_be_empty() -> None:
    split = split_dataset(_corpus([("a", 0), ("b", 1)]), 0.15, 0.15, whole=False)
    assert (split.train, split.validation, split.test) == ((0, 1), (), ())
    # Enough of one label, too few of the other.
    split = split_dataset(_corpus([("a", 0), *((str(n), 1) for n in range(10))]), 0.15, 0.15, whole=False)
    assert (len(split.validation), len(split.test)) == (2, 2) and 0 in split.train
    with pytest.raises(BadInput, match=r"^data: 1 documents are too few: the train part would be empty$"):
        split_dataset(_corpus([("a", 0)]), 0.3, 0.6, whole=False)
