"""The states of a run that come to this worker."""

from __future__ import annotations

from collections.abc import Callable

from edge.training.runtime import ClientRuntime
from edge.worker.compute_thread import ComputeThread
from edge.worker.evaluation import LocalEvaluation
from edge.worker.run_activity import RunActivity
from edge.worker.run_setup import RunSetup
from edge.worker.run_transfers import RunTransfers
from federa.phases import DOWNLOAD, LOAD
from federa.tensors.codec import decode
from federa.tensors.state import Tensors
from protos import federation_pb2 as pb


class ReceivedStates:
    """`receive` the state that an order names. Before a run's first one its start is downloaded too, and installed."""

    def __init__(
        self,
        start_sha256: bytes,
        *,
        runtime: ClientRuntime,
        setup: RunSetup,
        evaluation: LocalEvaluation,
        transfers: RunTransfers,
        activity: RunActivity,
        thread: ComputeThread,
    ) -> None:
        self._start_sha256 = start_sha256
        self._runtime = runtime
        self._setup = setup
        self._evaluation = evaluation
        self._transfers = transfers
        self._activity = activity
        self._thread = thread
        self._is_installed = False
        self._start: Tensors | None = None  # below fp32 alone, where later states are differences from it

    async def receive(self, order: pb.Train | pb.Evaluate, wire: str) -> Tensors:
        """Downloads it, unless it is here already: as the one that was evaluated, or as the start."""
        if (kept := self._evaluation.take_kept(order.state_sha256)) is not None:
            return kept
        client = order.clients[0]
        start = self._start
        if not self._is_installed:
            start = await self._fetch(client, self._start_sha256, lambda blob: self._install(blob, wire))
        if start is not None and order.state_sha256 == self._start_sha256:
            return start
        del start
        return await self._fetch(client, order.state_sha256, lambda blob: decode(blob, self._start))

    async def _fetch(self, client: int, sha256: bytes, load: Callable[[memoryview], Tensors]) -> Tensors:
        self._activity.enter(client, DOWNLOAD)
        blob = await self._transfers.download(sha256)
        self._activity.enter(client, LOAD)
        return await self._thread.run(load, blob)

    def _install(self, blob: memoryview, wire: str) -> Tensors:
        start = decode(blob)
        try:
            self._runtime.install(start)
        except BaseException:
            # The model may be half changed. The next order loads it anew.
            self._runtime.release()
            self._setup.forget()
            raise
        self._is_installed = True
        if wire != "fp32":
            self._start = start
        return start
