"""What comes before a run's first round on this worker: a rest, the base model, the data."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from edge.power.meter import Meter
from edge.power.timeline import Timeline
from edge.training.run_order import RunOrder
from edge.training.runtime import ClientRuntime, Setup
from edge.worker.compute_thread import ComputeThread
from edge.worker.model_cache import ModelCache
from edge.worker.reports import ACTIVITY_INTERVAL_S, Reports
from federa.models.files import ModelFile, ModelNotFound, check_files
from federa.phases import DOWNLOAD, IDLE, LOAD
from protos import federation_pb2 as pb

REST_S = 2.0
"""How long a device whose power is measured does nothing before its first load of a run: that is its idle power."""

Fetch = Callable[[ModelCache, Sequence[ModelFile], Callable[[float], None]], Awaitable[Path]]


class RunSetup:
    """Prepares a run: `rest` first, then `done` whenever something is to be computed. It prepares once, until `forget`.
    `fetch` gets the base model's files into the cache, and shows the progress; `over` ends the rest."""

    def __init__(
        self,
        order: pb.Prepare,
        *,
        runtime: ClientRuntime,
        reports: Reports,
        timeline: Timeline,
        meter: Meter,
        cache: ModelCache | None,
        over: asyncio.Event,
        thread: ComputeThread,
        fetch: Fetch,
    ) -> None:
        self.setup: Setup | None = None
        self._order = order
        self._runtime = runtime
        self._reports = reports
        self._timeline = timeline
        self._meter = meter
        self._cache = cache
        self._over = over
        self._thread = thread
        self._fetch = fetch
        self._rested = False
        self._idle_w: float | None = None

    async def rest(self) -> None:
        """Do nothing for a while, once a run, where the device's power is measured."""
        if self._rested or not self._meter.scope:
            return
        self._rested = True
        self._timeline.enter(0, 0, IDLE)
        began_s = time.monotonic()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._over.wait(), REST_S)
        rest = self._meter.measured(began_s, time.monotonic())
        if rest.joules is not None:
            self._idle_w = rest.joules / rest.covered_s

    def power(self) -> pb.Power:
        """What power is measured with, and what the rest needed of it."""
        meter = self._meter
        return pb.Power(
            source=meter.source,
            scope=meter.scope,
            detail=meter.detail,
            interval_s=meter.interval_s,
            idle_w=self._idle_w,
        )

    async def done(self, round_: int) -> Setup:
        """The prepared run; where it is not prepared yet, or not any more, the time counts for that round."""
        if self.setup is None:
            self._timeline.enter(round_, 0, LOAD)
            self.setup = await self._set_up(round_)
        return self.setup

    def forget(self) -> None:
        """What was prepared is no more. The next `done` prepares it anew."""
        self.setup = None

    async def _set_up(self, round_: int) -> Setup:
        """With the base model that was fetched before, else with this machine's own, else with the coordinator's."""
        # Only before the first round: a trial is none of its seconds.
        order, folder = _run_order(self._order, trial=self._order.trial and round_ == 0), None
        if order.model and self._cache is not None:
            folder = await self._thread.run(self._cache.find, order.model)
        try:
            return await self._thread.run(self._runtime.prepare, order, folder)
        except ModelNotFound:
            if not order.model or self._cache is None:
                raise
        folder = await self._fetched(self._cache, order.model, round_)
        self._timeline.enter(round_, 0, LOAD)
        return await self._thread.run(self._runtime.prepare, order, folder)

    async def _fetched(self, cache: ModelCache, files: Sequence[ModelFile], round_: int) -> Path:
        loop = asyncio.get_running_loop()
        shown_s = 0.0

        def show(progress: float) -> None:
            nonlocal shown_s
            if (now_s := time.monotonic()) - shown_s > ACTIVITY_INTERVAL_S:
                shown_s = now_s
                loop.call_soon_threadsafe(self._reports.activity, round_, 0, DOWNLOAD, progress)

        self._timeline.enter(round_, 0, DOWNLOAD)
        self._reports.activity(round_, 0, DOWNLOAD)
        return await self._fetch(cache, files, show)


def _run_order(order: pb.Prepare, *, trial: bool) -> RunOrder:
    """Raises BadInput for a list of the base model's files that no coordinator of ours makes."""
    listed = [ModelFile(name=file.name, size=file.size, sha256=file.sha256) for file in order.model]
    return RunOrder(
        run_id=order.run_id,
        experiment_json=order.experiment_json,
        base_digest=order.base_digest,
        data_digest=order.data_digest,
        shards={shard.client: shard.indices for shard in order.shards},
        model=check_files(listed) if listed else (),
        trial=trial,
    )
