"""FedAvg (arXiv 1602.05629): the average of the clients' states, weighted by their examples.

The sum is taken in float64, in the order given (the caller's: by client), tensor by tensor from the files:
arrival order changes nothing, and memory does not grow with the number of clients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federa.errors import BadInput
from federa.tensors.codec import SLICE, Encoded, slices
from federa.tensors.state import write_state


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """A client's update on disk, in any of the wire's dtypes, and how many examples stand behind it."""

    path: Path
    examples: int


def aggregate(updates: Sequence[Update], base: Callable[[str], NDArray[np.float32]], target: Path) -> str:
    """Write the fp32 state that at least one update makes into `target`, synced, and return its digest in hex.

    In fp32 it is sum_i n_i x_i / sum_i n_i, and `base` is not asked. Below, it is base + sum_i n_i d_i / sum_i n_i,
    where `base` gives the reference's tensors. All updates have the same wire, names and shapes, or it is BadInput.
    """
    total = float(sum(update.examples for update in updates))
    files = [Encoded(update.path) for update in updates]
    first = files[0]
    for file in files:
        if (file.wire, file.reference_sha256, file.shapes) != (first.wire, first.reference_sha256, first.shapes):
            raise BadInput("the updates of a round differ in wire, reference or shapes")
    # A slice of each stays in the cache, and no tensor is ever held in float64 as a whole.
    weighted, product = np.empty(SLICE, np.float64), np.empty(SLICE, np.float64)

    def mean(name: str) -> NDArray[np.float32]:
        shape = first.shapes[name]
        found = np.empty(shape, np.float32)
        flat = found.reshape(-1)
        reference = None if first.wire == "fp32" else base(name).reshape(-1)
        for begin, end in slices(flat.size):
            acc, term = weighted[: end - begin], product[: end - begin]
            for index, (update, file) in enumerate(zip(updates, files, strict=True)):
                # The first is not added to a zero: that would lose the sign of another one.
                out = term if index else acc
                np.multiply(file.part(name, begin, end), float(update.examples), out=out, dtype=np.float64)
                if index:
                    acc += term
            acc /= total
            if reference is not None:
                acc += reference[begin:end]
            flat[begin:end] = acc
        return found

    return write_state(target, first.shapes, mean)
