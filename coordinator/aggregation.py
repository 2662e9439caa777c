"""FedAvg (arXiv 1602.05629): the average of the clients' states, weighted by their examples.

The sum is taken in float64, in the order given (the caller's: by client), tensor by tensor from memory-mapped files:
arrival order changes nothing, and memory does not grow with the number of clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

from federa.state import pack


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """A client's state on disk and how many examples stand behind it."""

    path: Path
    examples: int


def average(updates: Sequence[Update]) -> bytes:
    """The blob of sum_i n_i x_i / sum_i n_i over at least one update, all of the same names and shapes."""
    total = float(sum(update.examples for update in updates))
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(update.path, framework="numpy")) for update in updates]
        averaged = {}
        for name in sorted(files[0].keys()):
            weighted = np.zeros(files[0].get_slice(name).get_shape(), dtype=np.float64)
            for update, file in zip(updates, files, strict=True):
                weighted += np.multiply(file.get_tensor(name), float(update.examples), dtype=np.float64)
            averaged[name] = (weighted / total).astype(np.float32)
    return pack(averaged)
