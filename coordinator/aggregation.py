"""FedAvg (arXiv 1602.05629): the average of the clients' states, weighted by their examples.

The sum is taken in float64, in the order given (the caller's: by client), tensor by tensor from the files:
arrival order changes nothing, and memory does not grow with the number of clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federa.state import StateFile, pack


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """A client's state on disk and how many examples stand behind it."""

    path: Path
    examples: int


def average(updates: Sequence[Update]) -> bytes:
    """The blob of sum_i n_i x_i / sum_i n_i over at least one update, all of the same names and shapes."""
    total = float(sum(update.examples for update in updates))
    files = [StateFile(update.path) for update in updates]
    averaged = {}
    for name in files[0].names:
        weighted: NDArray[np.float64] | None = None
        for update, file in zip(updates, files, strict=True):
            product = np.multiply(file.tensor(name), float(update.examples), dtype=np.float64)
            weighted = product if weighted is None else np.add(weighted, product, out=weighted)
        assert weighted is not None, "at least one update"
        averaged[name] = (weighted / total).astype(np.float32)
    return pack(averaged)
