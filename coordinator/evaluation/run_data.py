"""A run's data as the coordinator sees it: what it holds out itself, and which records are whose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from federa.config import DEVICES, Experiment
from federa.data.partition import deal_alike, partition_examples
from federa.data.split import split_examples
from federa.errors import BadInput
from federa.seeds import derive_seed
from federa.tasks.composition import PARTS, TRAINING, compose, count_clients, unseen

if TYPE_CHECKING:
    from federa.data.dataset import Dataset, Record
    from federa.data.section import HeldOut
    from federa.tasks.base import Task

Clusters = Callable[[Sequence[str], int], Sequence[int]]
"""The cluster of each text. The centres are those of so many first ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunData:
    """`parts` are the indices of what the coordinator holds out and of what is left to train on; without any the
    devices hold out. `dataset` is None where all data are the devices' own but what `held_out` has."""

    experiment: Experiment
    """The run's, with what reading the data found filled in."""
    task: Task
    dataset: Dataset | None
    held_out: Mapping[HeldOut, Dataset]
    parts: Mapping[str, Sequence[int]]

    @property
    def digest(self) -> str:
        """The digest of what the devices read; "" where each has its own. Where the coordinator evaluates that is the
        source alone: they need no files that they do not use."""
        if self.dataset is None:
            return ""
        if not self.parts:
            return self.dataset.digest()
        source = [self.dataset.records[index] for index in self.dataset.source]
        return replace(self.dataset, records=tuple(source), given={}).digest()

    @property
    def held_out_digest(self) -> str:
        """The digest of what the coordinator alone reads; "" where there is nothing of the kind."""
        if not self.held_out or not self.experiment.data.given_parts:
            return ""
        return " ".join(f"{part} {dataset.digest()}" for part, dataset in self.held_out.items())

    @property
    def needs_clusters(self) -> bool:
        """Whether the partition is over clusters of texts."""
        partition = self.experiment.data.partition
        if self.dataset is None or partition.kind not in ("dirichlet", "shards"):
            return False
        return partition.over == "clusters" or (partition.over == "auto" and not self._has_classes)

    def deal(self, clusters: Sequence[int] | None) -> tuple[list[list[int]], dict[str, Any]]:
        """The indices of each client's records, and the composition. `clusters` has the cluster of every record where
        they are needed. Raises BadInput."""
        config = self.experiment
        count = config.federation.clients
        names = self.task.class_names()
        if self.dataset is None:
            return [[] for _ in range(count)], unseen(names)
        dataset, strata = self.dataset, self._strata(clusters)
        owned = self.parts.get(TRAINING, dataset.source)
        seed = derive_seed(config.seed, "partition")
        mine = [strata[index] for index in owned]
        dealt = partition_examples(mine, count, config.data.partition, seed)
        shards = [[owned[position] for position in shard] for shard in dealt]
        copies = self._copies(owned)
        composition = {
            **compose(names, self.task.strata(dataset.records), self.parts),
            **({"copies": copies} if copies else {}),
            "clients": count_clients(self.task, dataset.records, shards, clusters),
        }
        if not self.parts:
            for part, place in dataset.given.items():
                others = [strata[index] for index in place]
                given = deal_alike(mine, dealt, others, derive_seed(config.seed, "partition", part))
                for shard, positions in zip(shards, given, strict=True):
                    shard.extend(place[position] for position in positions)
        return shards, composition

    def cluster(self, clusters: Clusters) -> list[int]:
        """The cluster of every record. The centres are those of the records to train on; held-out ones belong to the
        nearest."""
        assert self.dataset is not None
        records = self.dataset.records
        owned = list(self.parts.get(TRAINING, self.dataset.source))
        order = [*owned, *sorted(set(range(len(records))) - set(owned))]
        found = clusters([self.task.embedded_text(records[index]) for index in order], len(owned))
        by_index = dict(zip(order, map(int, found), strict=True))
        return [by_index[index] for index in range(len(records))]

    @property
    def _has_classes(self) -> bool:
        """Whether a record has one class. A task that counts classes and has no names of strata has records of several,
        such as sentences with entities."""
        assert self.dataset is not None
        if self.task.class_names() is not None:
            return True
        records = self.dataset.records
        return self.task.class_counts(records[:1]) is None and len(set(self.task.strata(records))) > 1

    def _strata(self, clusters: Sequence[int] | None) -> Sequence[int]:
        """What the partition deals out record by record: classes, clusters, values of a column, or all alike."""
        assert self.dataset is not None
        partition, dataset = self.experiment.data.partition, self.dataset
        if partition.kind == "natural":
            assert dataset.groups is not None
            number = {value: place for place, value in enumerate(sorted(set(dataset.groups)))}
            return [number[value] for value in dataset.groups]
        if partition.kind in ("iid", "quantity"):
            return [0] * len(dataset)
        if self.needs_clusters:
            assert clusters is not None
            return clusters
        strata = self.task.strata(dataset.records)
        if not self._has_classes and len(set(strata)) < 2:
            task = self.experiment.task
            raise BadInput(f"data.partition.over must be clusters: {task} has no classes of records")
        return strata

    def _copies(self, owned: Sequence[int]) -> dict[str, int]:
        """How many records of each part that came by itself have the text of one that is trained on."""
        assert self.dataset is not None
        if not self.dataset.given:
            return {}
        records, identity = self.dataset.records, self.task.identity
        known = {identity(records[index]) for index in owned}
        return {
            part: sum(identity(records[index]) in known for index in place)
            for part, place in self.dataset.given.items()
        }


def read_run_data(config: Experiment) -> RunData:
    """Read what the experiment names. Raises BadInput."""
    task = config.make_task()
    if config.data.source == DEVICES:
        return RunData(experiment=config, task=task, dataset=None, held_out=task.given_parts(), parts={})
    dataset = task.load(parts=True)
    held_out: dict[HeldOut, Dataset] = {}
    parts: dict[str, Sequence[int]] = {}
    if config.evaluation == "coordinator":
        source = dataset.records[: len(dataset.source)]
        split = split_examples(task.strata(source), list(map(task.identity, source)), *config.data.fractions)
        parts = dict(zip(PARTS, (split.train, split.validation, split.test), strict=True))
        parts.update(dataset.given.items())
        held_out = {"validation": dataset.select(parts["validation"]), "test": dataset.select(parts["test"])}
    return RunData(
        experiment=config.resolved(dataset.found),
        task=task.resolved(dataset),
        dataset=dataset,
        held_out=held_out,
        parts=parts,
    )


def trial_records_of(data: RunData, length: int) -> Sequence[Record]:
    """Records for a trial of the model: the longest ones, or made up where the devices have all of their own."""
    from federa.models.trial import trial_records

    if data.dataset is None:
        return data.task.made_up(length)
    return trial_records(data.dataset.records, data.task)
