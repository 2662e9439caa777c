"""The records of the clients that a device hosts: what each trains on, and what it holds out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.training.run_order import RunOrder
from federa.data.split import split_examples
from federa.errors import BadInput
from federa.tasks.composition import TEST, TRAINING, VALIDATION, compose, in_words

if TYPE_CHECKING:
    from federa.config import Experiment
    from federa.data.dataset import Dataset
    from federa.tasks.base import Task

log = logging.getLogger("federa.worker")

Slot = tuple[int, str]
"""A client, and one of its parts: training, validation or test."""


def load_client_data(order: RunOrder, config: Experiment, task: Task, file: Path | None) -> dict[Slot, Dataset]:
    """The parts of every hosted client that have records: of the device's own `file`, or of the data set that the
    experiment names. Where the coordinator evaluates there is the training part alone, and the files of the others are
    not read. Raises BadInput."""
    evaluates = config.evaluation == "devices"
    if file is not None:
        own = task.load(file)
        log.info("%s: %s", file, in_words(compose(task.class_names(), task.strata(own.records))))
        parts = _split(own, task, task.data.validation, task.data.test) if evaluates else {TRAINING: own}
        return _slots(dict.fromkeys(order.shards, parts))
    dataset = task.load(parts=evaluates)
    if dataset.digest() != order.data_digest:
        raise BadInput(f"data: {config.data.source} here is not the data set that the coordinator dealt out")
    if not evaluates:
        return _slots({client: {TRAINING: dataset.select(indices)} for client, indices in order.shards.items()})
    return _slots({client: _parts(dataset, indices, task) for client, indices in order.shards.items()})


def _parts(dataset: Dataset, indices: Sequence[int], task: Task) -> dict[str, Dataset]:
    """A client's parts: those that came by themselves are known by where they stand, the others are split off."""
    own = dataset.select([index for index in indices if index in dataset.source])
    given: dict[str, Dataset] = {
        part: dataset.select([index for index in indices if index in place]) for part, place in dataset.given.items()
    }
    return {**_split(own, task, *task.data.fractions), **given}


def _split(dataset: Dataset, task: Task, validation: float, test: float) -> dict[str, Dataset]:
    strata, identities = task.strata(dataset.records), list(map(task.identity, dataset.records))
    split = split_examples(strata, identities, validation, test, whole=False)
    return {
        TRAINING: dataset.select(split.train),
        VALIDATION: dataset.select(split.validation),
        TEST: dataset.select(split.test),
    }


def _slots(clients: dict[int, dict[str, Dataset]]) -> dict[Slot, Dataset]:
    for client, parts in clients.items():
        sizes = {part: len(dataset) for part, dataset in parts.items()}
        if not all(sizes.values()):
            log.warning(
                "client %d has %d documents: %d to train on, %d to validate on, %d to test on",
                client, sum(sizes.values()), sizes[TRAINING], sizes.get(VALIDATION, 0), sizes.get(TEST, 0),
            )  # fmt: skip
    return {
        (client, part): dataset
        for client, parts in clients.items()
        for part, dataset in parts.items()
        if part == TRAINING or len(dataset)
    }
