"""An aggregator of one's own: the coordinate-wise median of the clients' updates (arXiv 1803.01498).

One client whose update is far off, broken or hostile, moves a mean as far as it likes. It moves a median no further
than to its neighbour. In return the median looks at no weights: a client with ten examples counts as much as one with a
thousand.

To use it, copy this file to federa/aggregation/median.py, add to AGGREGATORS in federa/aggregation/__init__.py

    "median": "federa.aggregation.median:Median",

and run

    federa-bench --set aggregator=median --set median.step=0.5
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from federa.aggregation.base import Aggregate, AggregateFiles, Aggregator, RoundUpdates, Tensor
from federa.section import Section
from federa.tensors.state import write_state


class MedianSection(Section):
    """Its section of the experiment. `step` is how far a round goes from its broadcast towards the median: below 1 one
    round's clients move the state less."""

    step: Annotated[float, Field(gt=0, le=1)] = 1.0


class Median(Aggregator):
    """For every single value of the state: broadcast + step (median of the clients' values - broadcast)."""

    section = "median"
    Config = MedianSection

    def aggregate(self, updates: RoundUpdates, files: AggregateFiles) -> Aggregate:
        step = self.config.step

        def moved(name: str) -> Tensor:
            # An even number of float32 values is averaged in float64, so that the sum cannot overflow.
            median = np.median(np.stack(updates.tensors(name)).astype(np.float64), axis=0)
            if step < 1:
                broadcast = updates.broadcast(name)
                median = broadcast + step * (median - broadcast)
            return median.astype(np.float32)

        # write_state asks for one tensor after the other, writes them as the run's other states are written, and syncs.
        # There is no server state: the median remembers nothing.
        return Aggregate(state=write_state(files.state, updates.shapes, moved))
