"""FedAvg (arXiv 1602.05629): the average of the clients' states, weighted by their examples.

The sum is taken in float64, in the order given (the caller's: by client), tensor by tensor from the files:
arrival order changes nothing, and memory does not grow with the number of clients.
"""

from __future__ import annotations

import numpy as np

from federa.aggregation.base import Aggregate, AggregateFiles, Aggregator, RoundUpdates, Tensor
from federa.tensors.codec import SLICE_VALUES, slices
from federa.tensors.state import write_state


class FedAvg(Aggregator):
    """The mean of the updates, weighted by their examples. In fp32 the new state is sum_i n_i x_i / sum_i n_i. Below,
    it is broadcast + sum_i n_i d_i / sum_i n_i."""

    def aggregate(self, updates: RoundUpdates, files: AggregateFiles) -> Aggregate:
        total = float(sum(updates.examples))
        # A slice of each stays in the cache, and no tensor is ever held in float64 as a whole.
        weighted, product = np.empty(SLICE_VALUES, np.float64), np.empty(SLICE_VALUES, np.float64)

        def mean(name: str) -> Tensor:
            found = np.empty(updates.shapes[name], np.float32)
            flat = found.reshape(-1)
            reference = None if updates.wire == "fp32" else updates.broadcast(name).reshape(-1)
            for begin, end in slices(flat.size):
                acc, term = weighted[: end - begin], product[: end - begin]
                for index, (examples, file) in enumerate(zip(updates.examples, updates.files, strict=True)):
                    # The first is not added to a zero: that would lose the sign of another one.
                    out = term if index else acc
                    np.multiply(file.part(name, begin, end), float(examples), out=out, dtype=np.float64)
                    if index:
                        acc += term
                acc /= total
                if reference is not None:
                    acc += reference[begin:end]
                flat[begin:end] = acc
            return found

        return Aggregate(state=write_state(files.state, updates.shapes, mean))
