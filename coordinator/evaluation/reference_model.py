"""The coordinator's own model: where the start state comes from, and what a state is worth."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from coordinator.evaluation.run_data import RunData, read_run_data, trial_records_of
from federa.config import DEVICES, Experiment
from federa.errors import BadInput, FederaError
from federa.tasks.composition import CutRecords

if TYPE_CHECKING:
    from federa.data.batches import Examples
    from federa.models.pretrained import PretrainedModel
    from federa.models.tuned import TunedModel
    from federa.tasks.base import Task
    from federa.tasks.metric import Counters

Part = Literal["validation", "test"]
MAX_MADE_UP = 512
"""The most tokens of a trial's made-up text. The table of positions is held against `data.max_length` before; beyond
that a longer text finds nothing more, and attention takes time and memory by its square."""


class ReferenceModel(Protocol):
    """What a run asks of a model. Calls are made one at a time, off the event loop."""

    experiment: Experiment
    """The run's. Once prepared, with what reading its data found filled in: that is what the workers are sent."""
    base_digest: str
    data_digest: str
    """The digest of the data that the devices read, too."""
    held_out_digest: str
    """The digest of held-out parts that came by themselves and are read here alone, else empty."""
    clusters: Sequence[int] | None
    """The cluster of each record, where the partition is over clusters. Set it before `prepare` where an earlier
    process computed them."""
    composition: Mapping[str, Any]
    """What was read (federa.tasks.composition). Once prepared."""
    cut: CutRecords | None
    """How many records of the parts that are held out here lost tokens; None where none are. Once prepared."""
    model_notes: Sequence[str]
    """What was not as usual with the base model, and what was done: each goes on from its name. Once prepared."""
    shards: list[list[int]]
    """For each client, its records' indices in the data set: none where the devices bring their own."""
    trainable_parameters: int
    start_s: float
    """Seconds that the method's start took (FeDeRA: the SVD)."""

    def prepare(self, recorded: bytes | None = None) -> bytes:
        """Load everything and return the start state's blob: `recorded`, where the run was begun by an earlier process,
        or a new one. Raises BadInput."""
        ...

    def model_files(self, folder: Path) -> list[Path]:
        """The base model's files, for devices that lack them; what has to be made goes into `folder`, once a run. Call
        `prepare` first. Raises FederaError."""
        ...

    def evaluate(self, state: Path, part: Part) -> Counters:
        """What the task counts of a state file on a part of the data that no client sees. Raises EvaluationStopped
        after `stop`."""
        ...

    def stop(self) -> None:
        """Called from another thread: end an evaluation under way soon, the run is over."""
        ...


class EvaluationStopped(FederaError):
    """The run was ended while its model was being evaluated."""


class TorchReferenceModel:
    """The real one. Evaluation is in fp32 on the CPU, so that a score does not depend on the coordinator's hardware."""

    def __init__(self, config: Experiment) -> None:
        self.experiment = config
        self.base_digest = ""
        self.data_digest = ""
        self.held_out_digest = ""
        self.clusters: Sequence[int] | None = None
        self.composition: Mapping[str, Any] = {}
        self.cut: CutRecords | None = None
        self.model_notes: Sequence[str] = ()
        self.shards: list[list[int]] = []
        self.trainable_parameters = 0
        self.start_s = 0.0
        self._stopped = False
        self._model: TunedModel | None = None
        self._task: Task | None = None
        self._parts: dict[Part, Examples] = {}

    def prepare(self, recorded: bytes | None = None) -> bytes:
        from federa.models.pretrained import load_pretrained
        from federa.models.trial import try_model
        from federa.models.tuned import TunedModel
        from federa.tensors.state import pack, unpack

        data = read_run_data(self.experiment)
        self.experiment = config = data.experiment
        self.data_digest, self.held_out_digest = data.digest, data.held_out_digest
        self._task = task = config.make_task()
        base = load_pretrained(config.model, task, config.seed)
        if base.max_tokens is not None and config.data.max_length > base.max_tokens:
            raise BadInput(f"data.max_length must be at most {base.max_tokens} for {config.model}")
        self.base_digest, self.model_notes = base.digest, base.notes
        self._deal(data, base)
        for part, dataset in data.held_out.items():
            self._parts[part] = task.encode(dataset.records, base.tokenizer, config.data.max_length)
        if data.held_out:
            counts = (CutRecords(len(dataset), self._parts[part].cut) for part, dataset in data.held_out.items())
            self.cut = CutRecords.summed(counts)
        tried = trial_records_of(data, _trial_length(config))
        del data  # the texts of the training part are needed no more
        model = TunedModel(base, config.make_method())
        self.trainable_parameters = model.trainable_parameters
        self._model = model
        if recorded is not None:
            model.load_state(unpack(recorded))
            model.install()
            return recorded
        began = time.monotonic()
        start = model.init(config.seed)
        self.start_s = time.monotonic() - began
        for name, value in start.items():
            if not bool(value.isfinite().all()):
                raise BadInput(f"methods: {config.method.name} starts {name} with values that are not finite")
        model.install()
        if tried:
            # Not where a run goes on: it was tried when that began.
            try_model(model, task, tried, base.tokenizer, _trial_length(config))
        return pack({name: value.numpy() for name, value in start.items()})

    def _deal(self, data: RunData, base: PretrainedModel) -> None:
        """Give the clients their records, all of them where the devices evaluate."""
        config = data.experiment
        if data.needs_clusters and self.clusters is None:
            from federa.models.clusters import cluster_texts

            def clusters(texts: Sequence[str], fitted: int) -> list[int]:
                return cluster_texts(base, texts, config.data.partition.clusters, config.seed, fitted=fitted)

            self.clusters = data.cluster(clusters)
        self.shards, self.composition = data.deal(self.clusters)

    def model_files(self, folder: Path) -> list[Path]:
        from federa.models.conversion import save_tokenizer, save_weights
        from federa.models.files import TOKENIZER, WEIGHTS, metadata_files, weight_files
        from federa.models.location import local_folder
        from federa.models.pretrained import load_pretrained
        from federa.models.tokenizer import load_tokenizer

        config = self.experiment
        source = local_folder(config.model)
        if source is None:
            return []  # it was loaded from elsewhere than where it is looked for: devices find it themselves
        weights = weight_files(source)
        if not weights:
            weights = [folder / WEIGHTS]
            if not weights[0].is_file():  # else an earlier process of the run wrote it
                # Loaded again: of the one that is evaluated, W_res has taken the place of weights.
                stored = load_pretrained(config.model, config.make_task(), config.seed, as_stored=True)
                save_weights(stored, weights[0])
        others = metadata_files(source)
        if not (source / TOKENIZER).is_file():
            # As it was converted here: a device needs no sentencepiece then. Not the one in use, which has the task's
            # own tokens already: a device adds them itself.
            others += save_tokenizer(load_tokenizer(str(source)), folder / TOKENIZER)
        return [*others, *weights]

    def evaluate(self, state: Path, part: Part) -> Counters:
        from federa.tensors.state import unpack

        assert self._model is not None and self._task is not None, "prepare() comes first"
        self._model.load_state(unpack(state.read_bytes()))
        return self._task.evaluate(self._model.model, self._parts[part], before_batch=self._go_on)

    def stop(self) -> None:
        self._stopped = True

    def _go_on(self) -> None:
        if self._stopped:
            raise EvaluationStopped("the run is over")


def _trial_length(config: Experiment) -> int:
    """Tokens at which a trial's texts are cut."""
    longest = config.data.max_length
    return min(longest, MAX_MADE_UP) if config.data.source == DEVICES else longest
