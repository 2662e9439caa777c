"""What a worker does with a model: prepare a run, install its start, train a client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge.training.base_model import load_base_model
from edge.training.client_data import load_client_data
from edge.training.run_order import RunOrder
from federa.tasks.composition import TRAINING, CutRecords
from federa.tensors.state import Tensors

if TYPE_CHECKING:
    import torch

    from edge.training.precision import Precision
    from edge.training.trainer import Trainer
    from federa.config import Experiment
    from federa.data.batches import Examples
    from federa.models.tuned import TunedModel
    from federa.tasks.base import Task
    from federa.tasks.metric import Counters

EVALUATION_BATCH_SIZE = 64
"""Examples in a batch without gradients, where memory suffices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedClient:
    """A client's new state, and what is said with it. `tensors` may share the model's memory: they hold until the
    runtime's next call. `examples` are the records that it was trained on, its weight, however many a task makes of
    one. `micro_batch` is how many examples were trained at a time, where memory was too short for what
    the experiment says, else 0."""

    tensors: Tensors
    examples: int
    loss: float
    step_ms: Sequence[float]
    micro_batch: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """On what, and how, a prepared run computes; and how many records each hosted client trains on."""

    device: str
    precision: str
    examples: Mapping[int, int]
    threads: int = 0
    """CPU threads of torch's, where there is torch."""
    cut: Mapping[int, CutRecords] = field(default_factory=dict)
    """How many records of each hosted client, held out or not, lost tokens."""


class ClientRuntime(Protocol):
    """Calls come one at a time, all from one thread."""

    def facts(self) -> dict[str, str]:
        """What the reports say of this device."""
        ...

    def versions(self) -> dict[str, str]:
        """Versions that the coordinator compares and records."""
        ...

    def prepare(self, order: RunOrder, model: Path | None = None) -> Setup:
        """Load the base model and the hosted clients' data. `model` is the folder with the files that the order lists;
        without it the model is looked for on this machine, or, where the order lists none, at the hub too. Raises
        ModelNotFound where the listed files are needed, and FederaError."""
        ...

    def install(self, start: Tensors) -> None:
        """Take the run's start state in. Once a run, after `prepare`."""
        ...

    def train(self, round_: int, client: int, state: Tensors, on_step: Callable[[float], None]) -> TrainedClient:
        """Train one client from a broadcast state, which it leaves as it is. `on_step` gets 0.0 when the state is
        loaded and the first step begins, then the progress after each step, up to 1. Whatever it raises ends it."""
        ...

    def evaluate(self, client: int, part: str, state: Tensors, on_batch: Callable[[], None]) -> Counters:
        """What the task counts of a state on the examples that a client holds out for `part`, validation or test. It
        leaves the state as it is; whatever `on_batch` raises, before each batch, ends it."""
        ...

    def release(self) -> None:
        """Forget the run and free its memory."""
        ...


class TorchRuntime:
    """The real one. The base model is loaded once a run and its frozen part stays where it is."""

    def __init__(
        self, device: torch.device, data_file: Path | None = None, threads_of: Callable[[str], int] | None = None
    ) -> None:
        """`threads_of` a run are the CPU threads that it computes with; without it they stay as they are."""
        self._device = device
        self._data_file = data_file
        self._threads_of = threads_of
        self._config: Experiment | None = None
        self._examples: dict[int, Examples] = {}
        self._records: dict[int, int] = {}
        self._held_out: dict[tuple[int, str], Examples] = {}
        self._evaluated_at_once = EVALUATION_BATCH_SIZE
        self._task: Task | None = None
        self._model: TunedModel | None = None
        self._precision: Precision | None = None
        self._trainer: Trainer | None = None
        self._micro_batch: int | None = None

    def facts(self) -> dict[str, str]:
        from edge.training.device import facts

        return facts(self._device)

    def versions(self) -> dict[str, str]:
        from federa.versions import versions

        return versions()

    def prepare(self, order: RunOrder, model: Path | None = None) -> Setup:
        import torch

        from edge.training.device import device_name
        from edge.training.memory import free
        from edge.training.precision import choose_precision
        from federa.config import parse_json
        from federa.models.tuned import TunedModel

        if self._threads_of is not None:
            torch.set_num_threads(self._threads_of(order.run_id))
        config = parse_json(order.experiment_json)
        precision = choose_precision(config.training.precision, self._device)
        task = config.make_task()
        base = load_base_model(order, config, task, model)
        parts = load_client_data(order, config, task, self._data_file)
        self._examples, self._held_out, self._records = {}, {}, {}
        records, cut = Counter[int](), Counter[int]()
        for client, part in list(parts):
            # Each is let go when it is encoded: texts take many times the bytes of their tokens.
            dataset = parts.pop((client, part))
            examples = task.encode(dataset.records, base.tokenizer, config.data.max_length)
            records[client] += len(dataset)
            cut[client] += examples.cut
            if part == TRAINING:
                self._examples[client] = examples
                # Not what encoding made of them: a client was dealt so many, and no task lets it weigh more.
                self._records[client] = len(dataset)
            else:
                self._held_out[client, part] = examples
            del dataset
        free()
        self._config, self._precision, self._task = config, precision, task
        self._model = TunedModel(base, config.make_method())
        if order.trial:
            self._try_longest()
        return Setup(
            device=device_name(self._device),
            precision=precision.name,
            threads=torch.get_num_threads(),
            examples=dict(self._records),
            cut={client: CutRecords(count, cut[client]) for client, count in records.items()},
        )

    def install(self, start: Tensors) -> None:
        assert self._model is not None and self._precision is not None
        self._model.load_state(start)
        self._model.install()  # in fp32, before the cast below
        self._model.model.to(self._device)
        self._model.freeze(self._precision.dtype)
        self._trainer = self._make_trainer()

    def _make_trainer(self) -> Trainer:
        from edge.training.trainer import Trainer

        assert self._model is not None and self._precision is not None and self._config is not None
        assert self._task is not None
        config = self._config
        return Trainer(
            self._model, self._task, config.training, config.learning_rate, self._precision, self._micro_batch
        )

    def _try_longest(self) -> None:
        """Try a batch of the client that has the longest text, as it will be trained but for the start, which is not
        here yet. Frozen weights are in the compute dtype from here on, but for those that the start changes, which are
        kept in fp32 meanwhile."""
        import torch

        assert self._model is not None and self._precision is not None
        examples = max(self._examples.values(), key=lambda one: max(one.lengths, default=0), default=None)
        if examples is None or not len(examples):
            return
        tuned, dtype = self._model, self._precision.dtype
        with torch.no_grad():
            for parameter in tuned.communicated.values():
                if not bool(parameter.isfinite().all()):
                    parameter.zero_()  # memory that a method's layers did not fill: the start is its value
        kept = [] if dtype is torch.float32 else [(weight, weight.data) for weight in tuned.fitted_to_start]
        tuned.model.to(self._device)
        tuned.freeze(dtype)
        self._micro_batch = self._make_trainer().try_longest(examples)
        tuned.model.to("cpu")
        for weight, value in kept:
            weight.data = value

    def train(self, round_: int, client: int, state: Tensors, on_step: Callable[[float], None]) -> TrainedClient:
        from federa.seeds import derive_seed

        assert self._model is not None and self._trainer is not None and self._config is not None
        self._model.load_state(state)
        on_step(0.0)
        examples = self._examples[client]
        seed = derive_seed(self._config.seed, "train", round_, client)
        trained = self._trainer.train(examples, seed, on_step)
        return TrainedClient(
            tensors=self._model.state(),
            examples=self._records[client],
            loss=trained.loss,
            step_ms=trained.step_ms,
            micro_batch=trained.micro_batch,
        )

    def evaluate(self, client: int, part: str, state: Tensors, on_batch: Callable[[], None]) -> Counters:
        from edge.training.memory import halve_batch_on_oom

        assert self._model is not None and self._precision is not None and self._task is not None
        examples = self._held_out.get((client, part))
        if examples is None:
            return dict.fromkeys(self._task.counters, 0.0)
        self._model.load_state(state)
        task, model, precision = self._task, self._model.model, self._precision

        def attempt(size: int) -> Counters:
            with precision.autocast():
                return task.evaluate(model, examples, batch_size=size, device=precision.device, before_batch=on_batch)

        found, self._evaluated_at_once = halve_batch_on_oom(attempt, self._evaluated_at_once, "evaluation")
        return found

    @property
    def held_bytes(self) -> int:
        """Bytes of the hosted clients' token ids."""
        return sum(examples.nbytes for examples in (*self._examples.values(), *self._held_out.values()))

    def release(self) -> None:
        import gc

        import torch

        self._config = self._task = self._model = self._trainer = self._precision = None
        self._examples, self._held_out, self._records = {}, {}, {}
        self._micro_batch = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
