"""A federation without a model: tensors of any size that nobody learns anything with. For benchmarks and tests of all
that lies between the coordinator and its workers, in one process or in several:

    python -m tests.doubles.noop coordinator ARGS...    federa-coordinator with a NoopReferenceModel
    python -m tests.doubles.noop worker ARGS...         federa-worker with a NoopRuntime

Environment, read by these two commands alone:

    NOOP_TENSORS=4          how many tensors the state has
    NOOP_TENSOR_VALUES=16   how many fp32 values each of them holds
    NOOP_SCORES=1.0       what evaluations say: a value for each in turn, such as 0.2,0.5,0.9; the last one stays
    NOOP_EVALUATE_S=0       how long an evaluation takes, the coordinator's or that of a client on its device
    NOOP_TRAIN_S=0          how long a client's training takes
    NOOP_MOVED=             how many tensors a training moves, the first ones by name; the others come back as they
                            were, without a copy; empty: all of them
    NOOP_FAILURE=           when not empty, every training fails with these words; `3:words`: those of client 3 alone
    NOOP_FAILURE_ROUNDS=    the rounds in which it fails, such as 1,2; empty: in all of them
    NOOP_SETUP_FAILURE=     when not empty, a worker cannot prepare and says this, as bad input
    NOOP_EVALUATE_FAILURE=  when not empty, every evaluation raises a RuntimeError with these words
    NOOP_STAMPS=            a file to which every training adds a line: round, client, time.monotonic()
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.evaluation.reference_model import Part
from edge.training.run_order import RunOrder
from edge.training.runtime import Setup, TrainedClient
from federa import __version__
from federa.config import DEVICES, Experiment, parse_json
from federa.errors import BadInput, FederaError
from federa.tasks.composition import CutRecords
from federa.tasks.metric import Counters
from federa.tensors.header import write_header
from federa.tensors.state import Shapes, Tensors

BASE_DIGEST = hashlib.sha256(b"no model").hexdigest()
DATA_DIGEST = hashlib.sha256(b"no data").hexdigest()
LABELS = ("no", "yes")
"""What reading the data would find."""
STEPS = 4
EXAMPLES = 100.0
"""Behind each value of the reference model's."""


def equal_shapes(tensors: int = 4, values: int = 16) -> dict[str, tuple[int, ...]]:
    """So many tensors with so many values each."""
    return {f"layer.{index:03}": (values,) for index in range(tensors)}


def start_state(shapes: Shapes) -> dict[str, np.ndarray]:
    """The start: every tensor holds its own place in the order."""
    return {name: np.full(shape, index, np.float32) for index, (name, shape) in enumerate(sorted(shapes.items()))}


def start_blob(shapes: Shapes) -> bytes:
    """The same as `pack` makes it, in a third of the memory: a benchmark measures the coordinator's, not this."""
    header, entries = write_header({name: ("F32", shape) for name, shape in shapes.items()})
    blob = io.BytesIO()
    blob.write(header)
    for index, name in enumerate(entries):
        blob.write(np.full(shapes[name], index, np.float32).data)
    return blob.getvalue()


def trained_state(state: Tensors, round_: int, client: int, moved: int | None = None) -> dict[str, np.ndarray]:
    """What a client makes of a state: every value moves by the same step, which round and client decide; with `moved`
    those of so many tensors."""
    step = np.float32((client + 1) / (7 * round_))
    return {**state, **{name: state[name] + step for name in sorted(state)[:moved]}}


def shard(client: int) -> list[int]:
    """A client's documents: client n has n + 1 of them, so that the clients' weights differ."""
    first = client * (client + 1) // 2
    return list(range(first, first + client + 1))


def held_out(client: int, part: str) -> int:
    """How many documents it has beyond those, where the devices evaluate."""
    return client + (2 if part == "validation" else 1)


def counted(state: Tensors, client: int, part: str) -> dict[str, float]:
    """What a client's held-out part says of a state: how many are right, of how many. The first value of every tensor
    decides."""
    examples = held_out(client, part)
    seen = sum(float(value.reshape(-1)[0]) for _, value in sorted(state.items()))
    correct = int(abs(seen) * 1000) % (examples + 1)
    return {"correct": float(correct), "examples": float(examples), **by_class(correct, examples)}


def by_class(correct: float, examples: float) -> dict[str, float]:
    """Counters by class where all are of the first class, and the wrong ones are taken for the second."""
    counters = {"gold/0": examples, "predicted/0": correct, "correct/0": correct, "predicted/1": examples - correct}
    return {name: float(value) for name, value in counters.items() if value}


class NoopReferenceModel:
    """A ReferenceModel (coordinator.evaluation). `scores` has a value for each evaluation in turn, the last one
    stays; or it is a function of the state's path and the part."""

    def __init__(
        self,
        config: Experiment,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        scores: Sequence[float] | Callable[[Path, str], float] = (1.0,),
        evaluate_s: float = 0.0,
        evaluate_failure: str = "",
    ) -> None:
        self._evaluate_failure = evaluate_failure
        self.shapes = dict(equal_shapes() if shapes is None else shapes)
        self.experiment = config
        if config.data.source != DEVICES:
            self.experiment = config.resolved({"labels": LABELS})
        self.base_digest = BASE_DIGEST
        self.data_digest = DATA_DIGEST
        self.held_out_digest = ""
        self.clusters: Sequence[int] | None = None
        self.composition: Mapping[str, Any] = {}
        self.cut: CutRecords | None = None
        self.model_notes: Sequence[str] = ()
        self.shards = [shard(client) for client in range(config.federation.clients)]
        if config.data.source == DEVICES:
            self.shards = [[] for _ in self.shards]
        elif config.evaluation == "devices":
            more = [held_out(client, "validation") + held_out(client, "test") for client in range(len(self.shards))]
            self.shards = [[*own, *range(1_000_000, 1_000_000 + more[n])] for n, own in enumerate(self.shards)]
        self.trainable_parameters = sum(int(np.prod(shape)) for shape in self.shapes.values())
        self.start_s = 0.0
        self.evaluated: list[tuple[str, str]] = []
        """Part and state file's stem (its digest) of every evaluation."""
        self._scores = scores
        self._evaluate_s = evaluate_s

    def prepare(self, recorded: bytes | None = None) -> bytes:
        return start_blob(self.shapes) if recorded is None else recorded

    def model_files(self, folder: Path) -> list[Path]:
        return []

    def evaluate(self, state: Path, part: Part) -> Counters:
        time.sleep(self._evaluate_s)
        if self._evaluate_failure:
            raise RuntimeError(self._evaluate_failure)
        turn = len(self.evaluated)
        self.evaluated.append((part, state.stem))
        scores = self._scores
        value = scores(state, part) if callable(scores) else scores[min(turn, len(scores) - 1)]
        return {**by_class(value * EXAMPLES, EXAMPLES), "correct": value * EXAMPLES, "examples": EXAMPLES}

    def stop(self) -> None:
        pass


class NoopRuntime:
    """A ClientRuntime (edge.training). `calls` names its methods in the order they were called, `trained` has round and
    client of every training, `steps` counts the steps begun. `failure`, `failure_rounds`, `moved` and `stamps`
    are as in the environment."""

    def __init__(
        self,
        train_s: float = 0.0,
        failure: str = "",
        *,
        failure_rounds: Sequence[int] = (),
        moved: int | None = None,
        stamps: Path | None = None,
        evaluate_s: float = 0.0,
        setup_failure: str = "",
        evaluate_failure: str = "",
    ) -> None:
        self._evaluate_s = evaluate_s
        self._setup_failure = setup_failure
        self._evaluate_failure = evaluate_failure
        self.trained: list[tuple[int, int]] = []
        self.calls: list[str] = []
        self.steps = 0
        self._train_s = train_s
        client, colon, words = failure.partition(":")
        only = bool(colon) and client.isdecimal()
        self._failure = words if only else failure
        self._failing_client = int(client) if only else None
        self._failure_rounds = frozenset(failure_rounds)
        self._moved = moved
        self._stamps = stamps
        self._examples: dict[int, int] = {}

    def facts(self) -> dict[str, str]:
        return {"device": "noop", "board": "no board"}

    def versions(self) -> dict[str, str]:
        return {"federa": __version__}

    def prepare(self, order: RunOrder, model: Path | None = None) -> Setup:
        self.calls.append("prepare")
        if self._setup_failure:
            raise BadInput(self._setup_failure)
        splits = parse_json(order.experiment_json).evaluation == "devices"
        self._examples = {client: len(shard(client) if splits else indices) for client, indices in order.shards.items()}
        return Setup(device="noop", precision="fp32", examples=dict(self._examples))

    def install(self, start: Tensors) -> None:
        self.calls.append("install")

    def train(self, round_: int, client: int, state: Tensors, on_step: Callable[[float], None]) -> TrainedClient:
        self.calls.append("train")
        self.trained.append((round_, client))
        if self._stamps is not None:
            with self._stamps.open("a") as file:
                file.write(f"{round_} {client} {time.monotonic():.6f}\n")
        on_step(0.0)
        for step in range(1, STEPS + 1):
            self.steps += 1
            time.sleep(self._train_s / STEPS)
            on_step(step / STEPS)
        if self._fails(round_, client):
            raise FederaError(self._failure)
        return TrainedClient(
            tensors=trained_state(state, round_, client, self._moved),
            examples=self._examples[client],
            loss=1.0 / round_,
            step_ms=[1.0] * STEPS,
        )

    def evaluate(self, client: int, part: str, state: Tensors, on_batch: Callable[[], None]) -> Counters:
        self.calls.append("evaluate")
        if self._evaluate_failure:
            raise RuntimeError(self._evaluate_failure)
        for _ in range(STEPS):
            on_batch()
            time.sleep(self._evaluate_s / STEPS)
        return counted(state, client, part)

    def _fails(self, round_: int, client: int) -> bool:
        return (
            bool(self._failure)
            and self._failing_client in (None, client)
            and (not self._failure_rounds or round_ in self._failure_rounds)
        )

    def release(self) -> None:
        self.calls.append("release")


def reference_model_from_environment(config: Experiment) -> NoopReferenceModel:
    tensors, values = (int(os.environ.get(f"NOOP_{key}", "0")) for key in ("TENSORS", "TENSOR_VALUES"))
    scores = [float(word) for word in os.environ.get("NOOP_SCORES", "1.0").split(",")]
    pause_s = float(os.environ.get("NOOP_EVALUATE_S", "0"))
    failure = os.environ.get("NOOP_EVALUATE_FAILURE", "")
    return NoopReferenceModel(config, equal_shapes(tensors or 4, values or 16), scores, pause_s, failure)


def runtime_from_environment(options: Namespace) -> NoopRuntime:
    setting = os.environ.get
    moved, stamps = setting("NOOP_MOVED", ""), setting("NOOP_STAMPS", "")
    return NoopRuntime(
        float(setting("NOOP_TRAIN_S", "0")),
        setting("NOOP_FAILURE", ""),
        failure_rounds=[int(word) for word in setting("NOOP_FAILURE_ROUNDS", "").split(",") if word],
        moved=int(moved) if moved else None,
        stamps=Path(stamps) if stamps else None,
        evaluate_s=float(setting("NOOP_EVALUATE_S", "0")),
        setup_failure=setting("NOOP_SETUP_FAILURE", ""),
        evaluate_failure=setting("NOOP_EVALUATE_FAILURE", ""),
    )


def main(arguments: list[str]) -> int:
    side, *rest = arguments
    if side == "coordinator":
        from coordinator.main import main as coordinate

        return coordinate(rest, make_model=reference_model_from_environment)
    if side == "worker":
        from edge.main import main as work

        return work(rest, make_runtime=lambda options, threads: runtime_from_environment(options))
    print("usage: python -m tests.doubles.noop coordinator|worker ARGS...", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["help"]))
