"""What a worker does with a model: prepare a run, install its start, train a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from federa.errors import BadInput
from federa.state import Tensors
from protos.federation_pb2 import Prepare

if TYPE_CHECKING:
    import torch

    from edge.precision import Precision
    from edge.trainer import Trainer
    from federa.config import Experiment
    from federa.data.batches import Examples
    from federa.data.corpus import Corpus
    from federa.tuned_model import TunedModel


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedClient:
    """A client's new state, and what is said with it. `tensors` may share the model's memory: they hold until the
    engine's next call."""

    tensors: Tensors
    examples: int
    loss: float
    step_ms: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """On what, and how, a prepared run computes; and how many examples each hosted client has."""

    device: str
    precision: str
    examples: Mapping[int, int]


class Engine(Protocol):
    """Calls come one at a time, all from one thread."""

    def facts(self) -> dict[str, str]:
        """What the reports say of this device."""
        ...

    def versions(self) -> dict[str, str]:
        """Versions that the coordinator compares and records."""
        ...

    def prepare(self, order: Prepare) -> Setup:
        """Load the base model and the hosted clients' data. Raises FederaError."""
        ...

    def install(self, start: Tensors) -> None:
        """Take the run's start state in. Once a run, after `prepare`."""
        ...

    def train(self, round_: int, client: int, state: Tensors, on_step: Callable[[float], None]) -> TrainedClient:
        """Train one client from a broadcast state, which it leaves as it is. `on_step` hears 0.0 when the state is
        loaded and the first step begins, then the progress after each step, up to 1. Whatever it raises ends it."""
        ...

    def release(self) -> None:
        """Forget the run and free its memory."""
        ...


class TorchEngine:
    """The real one. The base model is loaded once a run and its frozen part stays where it is."""

    def __init__(self, device: torch.device, data_file: Path | None = None) -> None:
        self._device = device
        self._data_file = data_file
        self._config: Experiment | None = None
        self._examples: dict[int, Examples] = {}
        self._model: TunedModel | None = None
        self._precision: Precision | None = None
        self._trainer: Trainer | None = None

    def facts(self) -> dict[str, str]:
        from edge.device import facts

        return facts(self._device)

    def versions(self) -> dict[str, str]:
        from federa.versions import versions

        return versions()

    def prepare(self, order: Prepare) -> Setup:
        from edge.device import device_name
        from edge.precision import choose_precision
        from federa.base_model import load_base_model
        from federa.config import parse_json
        from federa.data.batches import tokenize
        from federa.methods import method_class
        from federa.tuned_model import TunedModel

        config = parse_json(order.experiment_json)
        precision = choose_precision(config.training.precision, self._device)
        base = load_base_model(config.model, len(order.labels))
        if base.digest != order.base_digest:
            raise BadInput(
                f"model: {config.model} here is another base model than the coordinator's "
                f"(digest {base.digest[:12]}, not {order.base_digest[:12]}); install the same checkpoint on both"
            )
        corpora = self._corpora(order, config)
        self._examples = {
            client: tokenize(corpus, base.tokenizer, config.data.max_length) for client, corpus in corpora.items()
        }
        self._config, self._precision = config, precision
        self._model = TunedModel(base, method_class(config.method.name)(config.adapter))
        return Setup(
            device=device_name(self._device),
            precision=precision.name,
            examples={client: len(examples) for client, examples in self._examples.items()},
        )

    def install(self, start: Tensors) -> None:
        from edge.trainer import Trainer

        assert self._model is not None and self._precision is not None and self._config is not None
        self._model.load(start)
        self._model.install()  # in fp32, before the cast below
        self._model.model.to(self._device)
        self._model.freeze(self._precision.dtype)
        self._trainer = Trainer(self._model, self._config.training, self._config.method.rate, self._precision)

    def train(self, round_: int, client: int, state: Tensors, on_step: Callable[[float], None]) -> TrainedClient:
        from federa.seeds import derive_seed

        assert self._model is not None and self._trainer is not None and self._config is not None
        self._model.load(state)
        on_step(0.0)
        examples = self._examples[client]
        seed = derive_seed(self._config.seed, "train", round_, client)
        trained = self._trainer.train(examples, seed, on_step)
        return TrainedClient(
            tensors=self._model.dump(),
            examples=len(examples),
            loss=trained.loss,
            step_ms=trained.step_ms,
        )

    def release(self) -> None:
        import gc

        import torch

        self._config = self._model = self._trainer = self._precision = None
        self._examples = {}
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _corpora(self, order: Prepare, config: Experiment) -> dict[int, Corpus]:
        """The documents of each hosted client."""
        from federa.data.sources import read_corpus, read_file

        fixed = config.data.model_copy(update={"labels": tuple(order.labels)})
        if self._data_file is not None:
            return {shard.client: read_file(self._data_file, fixed) for shard in order.shards}
        corpus = read_corpus(fixed)
        if corpus.digest() != order.data_digest:
            raise BadInput(f"data: {config.data.source} here is not the corpus that the coordinator dealt out")
        return {shard.client: corpus.take(shard.indices) for shard in order.shards}
