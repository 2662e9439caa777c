"""What goes down to the workers in a round, and what the coordinator itself must know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from coordinator.storage.run_folder import RunFolder
from federa.seeds import derive_seed
from federa.tensors.codec import Encoded, encode
from federa.tensors.state import unpack


class Broadcast:
    """A round's state as its devices hold it: below fp32 a little beside the coordinator's own. The file with digest
    `sha256` is sent; `base` is what the workers make of it, and what their updates are measured from."""

    def __init__(self, folder: RunFolder, sha256: str, start: str) -> None:
        self.sha256 = sha256
        self._sent = Encoded(folder.state(sha256))
        self._start = Encoded(folder.state(start))

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._start.shapes

    @property
    def reference(self) -> Encoded | Callable[[str], NDArray[np.float32]]:
        """What updates are measured from: the file itself where it has it in fp32, to be read in slices."""
        return self._sent if self._sent.wire == "fp32" else self.base

    def base(self, name: str) -> NDArray[np.float32]:
        """A tensor as the workers start from it."""
        if self._sent.wire == "fp32":
            return self._sent.values(name)
        return self._sent.absolute(name, self._start.values(name))


def make_broadcast(folder: RunFolder, *, wire: str, round_: int, state: str, start: str, seed: int) -> Broadcast:
    """The broadcast of a round from the coordinator's state (both named by their digests), durable when this returns.

    The start itself is always sent in fp32: every device forms W_res from it. Later, below fp32, the difference from
    the start does, rounded from a seed of the round: made again after a restart it is the same.
    """
    if wire == "fp32" or state == start:
        return Broadcast(folder, state, start)
    blob = encode(
        unpack(folder.state(state).read_bytes()),
        wire,
        reference=unpack(folder.state(start).read_bytes()),
        reference_sha256=start,
        seed=derive_seed(seed, "wire", "down", round_),
    )
    return Broadcast(folder, folder.keep_state(blob), start)
