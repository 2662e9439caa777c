"""A federation in one process: the coordinator's model, a worker's runtime and an aggregator, without gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from coordinator.evaluation.reference_model import TorchReferenceModel
from edge.training.run_order import RunOrder
from edge.training.runtime import TorchRuntime
from federa.aggregation.base import AggregateFiles, RoundUpdates, Update
from federa.config import Experiment
from federa.tasks.metric import Counters, total
from federa.tensors.state import Tensors, pack, unpack


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """A round's start, each client's trained state, the new state, and what is counted of it: on the coordinator's
    test part, or over what all clients hold out."""

    start: Tensors
    updates: dict[int, Tensors]
    state: Tensors
    counters: Counters


def order_of(model: TorchReferenceModel, *, trial: bool = True) -> RunOrder:
    """The order of a prepared run, of all its clients."""
    return RunOrder(
        run_id="run",
        experiment_json=model.experiment.model_dump_json(),
        base_digest=model.base_digest,
        data_digest=model.data_digest,
        shards=dict(enumerate(model.shards)),
        trial=trial,
    )


def one_round(experiment: Experiment, folder: Path) -> Round:
    """Prepare, train every client from the start, aggregate, evaluate. `folder` is for the states' files."""
    reference = TorchReferenceModel(experiment)
    blob = reference.prepare()
    start = unpack(blob)
    runtime = TorchRuntime(torch.device("cpu"))
    setup = runtime.prepare(order_of(reference))
    runtime.install(start)
    updates, files = {}, []
    for client in range(len(reference.shards)):
        trained = runtime.train(1, client, start, lambda progress: None)
        assert trained.examples == setup.examples[client] > 0 and np.isfinite(trained.loss)
        updates[client] = {name: np.array(value) for name, value in trained.tensors.items()}
        path = folder / f"update-{client}"
        path.write_bytes(pack(updates[client]))
        files.append(Update(path=path, examples=trained.examples))
    written = AggregateFiles(state=folder / "state", server_state=folder / "server")
    experiment.make_aggregator().aggregate(RoundUpdates(files, start.__getitem__), written)
    state = unpack((folder / "state").read_bytes())
    if experiment.evaluation == "devices":
        parts = [runtime.evaluate(client, "test", state, lambda: None) for client in updates]
        counters: Counters = total(parts)
    else:
        counters = reference.evaluate(folder / "state", "test")
    return Round(start=start, updates=updates, state=state, counters=counters)
