"""A worker's anonymous memory with few clients and with many, of the same data: prepared, and after a round.

python -m benchmarks.client_memory --clients 1,50
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.footprint import sample
from federa.config import parse_experiment

MB = 1e6


def main(arguments: list[str] | None = None) -> int:
    """Measure a worker for each number of clients, in a process of its own."""
    parse = argparse.ArgumentParser(prog="python -m benchmarks.client_memory", description=__doc__)
    parse.add_argument("--clients", default="1,50", metavar="N,...", help="numbers of clients on one device")
    parse.add_argument("--data", default="embedded", metavar="DATA", help="the same for all (default: embedded)")
    parse.add_argument("--precision", default="fp32", metavar="P", help="fp32, bf16 or fp16")
    parse.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parse.parse_args(arguments)
    if options.worker is not None:
        print(json.dumps(measure(options.worker)))
        return 0
    print(f"{'clients':>8} {'records':>8} {'tokens MB':>10} {'begun MB':>9} {'prepared MB':>12} {'a round MB':>11}")
    for clients in map(int, options.clients.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            write_order(Path(folder), clients, options.data, options.precision)
            command = [sys.executable, "-m", "benchmarks.client_memory", "--worker", folder]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{clients:>8} {found['records']:>8} {found['tokens'] / MB:>10.2f} {found['begun'] / MB:>9.0f} "
            f"{found['prepared'] / MB:>12.0f} {found['trained'] / MB:>11.0f}"
        )
    return 0


def write_order(folder: Path, clients: int, data: str, precision: str) -> None:
    """Write what a worker is sent that hosts all clients."""
    from coordinator.evaluation.reference_model import TorchReferenceModel
    from edge.training.run_order import RunOrder

    config = parse_experiment(
        {
            "data": {"source": data, "partition": {"kind": "iid"}},
            "federation": {"clients": clients, "devices": 1},
            "training": {"precision": precision},
        }
    )
    reference = TorchReferenceModel(config)
    (folder / "state").write_bytes(reference.prepare())
    order = RunOrder(
        run_id="run",
        experiment_json=reference.experiment.model_dump_json(),
        base_digest=reference.base_digest,
        data_digest=reference.data_digest,
        shards=dict(enumerate(reference.shards)),
        trial=True,
    )
    (folder / "order.json").write_text(json.dumps(asdict(order)))


def measure(folder: Path) -> dict[str, int]:
    """Prepare the run that `write_order` wrote and train two clients; what is held then, in bytes."""
    import torch

    from edge.training.memory import free
    from edge.training.run_order import RunOrder
    from edge.training.runtime import TorchRuntime
    from federa.tensors.state import unpack

    def held() -> int:
        free()
        return sample(os.getpid()).anonymous_bytes

    entry = json.loads((folder / "order.json").read_text())
    shards = {int(client): indices for client, indices in entry.pop("shards").items()}
    state = unpack((folder / "state").read_bytes())
    runtime = TorchRuntime(torch.device("cpu"))
    begun = held()
    setup = runtime.prepare(RunOrder(**entry, shards=shards))
    found = {"begun": begun, "records": sum(setup.examples.values()), "prepared": held()}
    runtime.install(state)
    few = sorted(setup.examples, key=lambda client: setup.examples[client])[:2]
    for client in few if len(setup.examples) > 1 else []:
        runtime.train(1, client, state, lambda progress: None)
    return {**found, "tokens": runtime.held_bytes, "trained": held()}


if __name__ == "__main__":
    sys.exit(main())
