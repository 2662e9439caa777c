"""python tests/support/bare_worker.py ARGS...: a real federa-worker on a device without a base model or torch.

Its runtime trains nothing, as tests.doubles.noop's, and takes a model's folder for loaded when all its files are there.
FEDERA_TEST_MAX_BYTES limits the size of a file that it can write, as a disk that is full does.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from edge.main import main
from edge.training.run_order import RunOrder
from edge.training.runtime import Setup
from federa.models.files import ModelNotFound
from tests.doubles.noop import NoopRuntime


class BareRuntime(NoopRuntime):
    """`models` has the folders that it loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.models: list[Path] = []

    def prepare(self, order: RunOrder, model: Path | None = None) -> Setup:
        if model is None:
            raise ModelNotFound("model: nothing is here")
        assert sorted(path.name for path in model.iterdir()) == sorted(file.name for file in order.model)
        self.models.append(model)
        return super().prepare(order)


if __name__ == "__main__":
    if most := os.environ.get("FEDERA_TEST_MAX_BYTES"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
    sys.exit(main(make_runtime=lambda options, threads: BareRuntime()))
