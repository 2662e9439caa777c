"""Every method's learning rate for a task: the validation metric after a few rounds, over a grid of rates.

    python -m benchmarks.learning_rates --out grid.jsonl [--rates 1e-3,1e-2] [--seeds 0,1] [--training 1000]
        [--validation 400] [federa-bench's own options: --method all --data FILE --rounds 3 --set task=...]

The federation runs in this one process, on one thread, without a wire: the same model, trainer, partition and average
as on a cluster. Each run is a line of the file; what is in it already is not measured again, so that a grid which was
interrupted goes on. The rate is chosen on the validation part alone: the test part is not looked at.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.arguments import experiment_from
from benchmarks.arguments import parser as bench_parser
from benchmarks.machine import machine
from coordinator.evaluation.run_data import read_run_data
from edge.training.precision import choose_precision
from edge.training.trainer import Trainer
from federa.aggregation.base import AggregateFiles, RoundUpdates, Update
from federa.config import Experiment
from federa.data.batches import Examples
from federa.data.dataset import Dataset
from federa.errors import BadInput, FederaError
from federa.models.clusters import cluster_texts
from federa.models.pretrained import PretrainedModel, load_pretrained
from federa.models.tuned import TunedModel
from federa.seeds import derive_seed
from federa.tasks.base import Task
from federa.tensors.codec import encode
from federa.tensors.state import unpack

RATES = {"ft": (3e-5, 1e-4, 3e-4, 1e-3)}
"""Rates that are tried for a method: half decades around what is plausible."""
OTHER_RATES = (1e-3, 3e-3, 1e-2, 3e-2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What all runs of a seed share."""

    experiment: Experiment
    task: Task
    base: PretrainedModel
    shards: Sequence[Examples]
    records: Sequence[int]
    """How many each client has, its weight: a task may make several examples of one."""
    validation: Examples


def spread(indices: Sequence[int], most: int) -> list[int]:
    """So many of them, from all of their length."""
    if len(indices) <= most:
        return list(indices)
    return [indices[position * len(indices) // most] for position in range(most)]


def prepare(experiment: Experiment, training: int, validation: int) -> Prepared:
    """Read the data and the model, and give the clients their parts of `training` records. Raises BadInput."""
    data = read_run_data(experiment)
    experiment, task = data.experiment, data.task
    if data.dataset is None or not data.held_out:
        raise BadInput(
            "evaluation: must be coordinator, and data.source none of the devices': the rates are chosen here"
        )
    base = load_pretrained(experiment.model, task, experiment.seed)
    clusters: Sequence[int] | None = None
    if data.needs_clusters:
        count, seed = experiment.data.partition.clusters, experiment.seed
        clusters = data.cluster(lambda texts, fitted: cluster_texts(base, texts, count, seed, fitted=fitted))
    shards, _ = data.deal(clusters)
    whole = sum(map(len, shards))
    # Of each client the same share, so that the skew stays.
    shards = [spread(shard, max(1, round(len(shard) * training / whole))) for shard in shards]

    def encoded(dataset: Dataset) -> Examples:
        return task.encode(dataset.records, base.tokenizer, experiment.data.max_length)

    held_out = data.held_out["validation"]
    return Prepared(
        experiment=experiment,
        task=task,
        base=base,
        shards=[encoded(data.dataset.select(shard)) for shard in shards],
        records=list(map(len, shards)),
        validation=encoded(held_out.select(spread(range(len(held_out)), validation))),
    )


def federate(prepared: Prepared, experiment: Experiment, folder: Path) -> Iterator[tuple[float, float | None]]:
    """The mean training loss and the metric of every round of one method at its rate."""
    base = dataclasses.replace(prepared.base, model=copy.deepcopy(prepared.base.model))
    # Two of them, as on a cluster: what is evaluated is not cast.
    scored = TunedModel(dataclasses.replace(base, model=copy.deepcopy(base.model)), experiment.make_method())
    trained = TunedModel(base, experiment.make_method())
    state = {name: value.numpy() for name, value in scored.init(experiment.seed).items()}
    precision = choose_precision(experiment.training.precision, torch.device("cpu"))
    for model in (scored, trained):
        model.load_state(state)
        model.install()
    trained.freeze(precision.dtype)
    trainer = Trainer(trained, prepared.task, experiment.training, experiment.learning_rate, precision)
    aggregator, before = experiment.make_aggregator(), None
    for number in range(1, experiment.federation.rounds + 1):
        draw = random.Random(derive_seed(experiment.seed, "grid", number))
        drawn = sorted(draw.sample(range(len(prepared.shards)), experiment.federation.clients_per_round))
        updates, losses = [], []
        for client in drawn:
            trained.load_state(state)
            seed = derive_seed(experiment.seed, "train", number, client)
            losses.append(trainer.train(prepared.shards[client], seed).loss)
            path = folder / f"{client}.safetensors"
            path.write_bytes(encode(trained.state(), "fp32"))
            updates.append(Update(path=path, examples=prepared.records[client]))
        files = AggregateFiles(state=folder / "state", server_state=folder / f"server-{number}", before=before)
        made = aggregator.aggregate(RoundUpdates(updates, state.__getitem__), files)
        before = files.server_state if made.server_state else None
        state = unpack(files.state.read_bytes())
        scored.load_state(state)
        counters = prepared.task.evaluate(scored.model, prepared.validation)
        yield statistics.mean(losses), experiment.metric.value(counters)


def key_of(row: Mapping[str, Any]) -> tuple[object, ...]:
    """What tells one run of a file from another."""
    return row["task"], row["data"], row["method"], row["rate"], row["seed"], row["rounds"], row["training"]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The runs in a file; a last line that was cut short is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a run to a file, behind a line that was cut short if need be."""
    with path.open("ab+") as file:
        whole = not file.tell() or path.read_bytes().endswith(b"\n")
        file.write(f"{'' if whole else chr(10)}{json.dumps(row)}\n".encode())


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The runs as Markdown: a line for each method and rate, the best rate of a method in bold.

    A rate is judged by the mean, over its runs, of the metric after the last two rounds: one round is chance.
    """
    groups: dict[tuple[str, str, str], dict[float, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["task"], row["data"], row["method"]][row["rate"]].append(row)
    lines = ["| task | data | method | rate | metric by round | last two |", "|---|---|---|---|---|---|"]
    for (task, data, method), by_rate in groups.items():
        scores = {rate: statistics.mean(score(row) for row in runs) for rate, runs in by_rate.items()}
        best = max(scores, key=scores.__getitem__)
        for rate, runs in sorted(by_rate.items()):
            curves = "; ".join(" ".join(f"{value:.3f}" for value in row["curve"]) for row in runs)
            mark = "**" if rate == best else ""
            value = abs(scores[rate])
            lines.append(f"| {task} | {data} | {method} | {mark}{rate:g}{mark} | {curves} | {value:.3f} |")
    return "\n".join(lines)


def score(row: Mapping[str, Any]) -> float:
    """What a rate is judged by: the metric after the last two rounds, higher is better."""
    last = statistics.mean(row["curve"][-2:])
    return last if row["better"] == "higher" else -last


def measure(options: argparse.Namespace, experiment: Experiment) -> None:
    """Run what the file does not hold yet."""
    done = {key_of(row) for row in read_rows(options.out)}
    torch.set_num_threads(1)
    for seed in options.seeds:
        prepared: Prepared | None = None
        for choice in experiment.methods:
            for rate in options.rates or RATES.get(choice.name, OTHER_RATES):
                row: dict[str, Any] = {
                    "task": experiment.task, "data": experiment.name, "method": choice.name, "rate": rate,
                    "seed": seed, "rounds": experiment.federation.rounds, "training": options.training,
                }  # fmt: skip
                if key_of(row) in done:
                    continue
                seeded = experiment.model_copy(update={"seed": seed})
                prepared = prepared or prepare(seeded, options.training, options.validation)
                run = prepared.experiment.model_copy(
                    update={"methods": (choice.model_copy(update={"learning_rate": rate}),)}
                )
                began = time.monotonic()
                with tempfile.TemporaryDirectory(prefix="learning-rates-") as folder:
                    found = list(federate(prepared, run, Path(folder)))
                row |= {
                    "metric": run.metric.name, "better": run.metric.better,
                    "curve": [0.0 if value is None else value for _, value in found],
                    "losses": [loss for loss, _ in found], "validation": len(prepared.validation),
                    "seconds": round(time.monotonic() - began, 1),
                }  # fmt: skip
                append(options.out, row)
                curve = " ".join(f"{value:.3f}" for value in row["curve"])
                print(f"{choice.name} {rate:g} seed {seed}: {curve} ({row['seconds']} s)", flush=True)


def _numbers(kind: type) -> Any:
    return lambda text: [kind(word) for word in text.split(",")]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parse = argparse.ArgumentParser(
        prog="python -m benchmarks.learning_rates",
        description=(__doc__ or "").split("\n")[0],
        epilog="All other options are federa-bench's.",
    )
    parse.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON lines; added to")
    parse.add_argument("--rates", type=_numbers(float), metavar="RATES", help="by commas (default: by method)")
    parse.add_argument("--seeds", type=_numbers(int), default=[0], metavar="SEEDS", help="by commas (default: 0)")
    parse.add_argument("--training", type=int, default=1000, metavar="N", help="records (default: %(default)s)")
    parse.add_argument("--validation", type=int, default=400, metavar="N", help="records (default: %(default)s)")
    parse.add_argument("--table", action="store_true", help="only print the file's table")
    options, rest = parse.parse_known_args(arguments)
    try:
        if not options.table:
            measure(options, experiment_from(bench_parser().parse_args(rest)))
        rows = read_rows(options.out)
        if not rows:
            raise BadInput(f"--out: {options.out} holds no run")
    except FederaError as error:
        print(f"benchmarks.learning_rates: {error}", file=sys.stderr)
        return error.exit_code
    print(table(rows))
    print(machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
