"""What an experiment is doing now, for everybody who watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from protos.federation_pb2 import Outcome, Progress, RunProgress, WorkerProgress

SNAPSHOT_INTERVAL_S = 0.2
"""Watchers get at most five snapshots a second, however much happens."""


class ProgressBoard:
    """One experiment's snapshot. Change `run` or a worker's entry, then call `touch`."""

    def __init__(self, experiment_id: str, run_count: int) -> None:
        self._progress = Progress(experiment_id=experiment_id, run_count=run_count)
        self._workers: dict[str, WorkerProgress] = {}
        self._changed = asyncio.Event()

    @property
    def run(self) -> RunProgress:
        """The run under way."""
        return self._progress.run

    def next_run(self, method: str, rounds: int, target: float, metric: str = "", better: str = "higher") -> None:
        """Start over with the next run of the experiment."""
        self._progress.run_number += 1
        run = RunProgress(method=method, rounds=rounds, target=target, stage="preparing")
        run.metric, run.lower_is_better = metric, better == "lower"
        self._progress.run.CopyFrom(run)
        self.touch()

    def stage(self, stage: str, note: str = "") -> None:
        """The run under way does this now."""
        self.run.stage, self.run.note = stage, note
        self.touch()

    def reached(self, value: float, elapsed_s: float, wire_bytes: int) -> None:
        """A round is over: its metric, and the clock and the bytes of all rounds until then."""
        self.run.values.append(value)
        self.run.elapsed_after_s.append(elapsed_s)
        self.run.bytes_after.append(wire_bytes)
        self.run.elapsed_s = elapsed_s
        self.touch()

    def worker(self, name: str) -> WorkerProgress:
        """A worker's entry, made when it is first asked for."""
        return self._workers.setdefault(name, WorkerProgress(name=name))

    def end(self, outcome: Outcome, files: list[str]) -> None:
        """Nothing more happens."""
        self._progress.over = True
        self._progress.outcome.CopyFrom(outcome)
        self._progress.files.extend(files)
        self.touch()

    def touch(self) -> None:
        """Tell the watchers."""
        self._changed.set()
        self._changed = asyncio.Event()

    def snapshot(self) -> Progress:
        copy = Progress()
        copy.CopyFrom(self._progress)
        copy.workers.extend(self._workers[name] for name in sorted(self._workers))
        return copy

    async def watch(self) -> AsyncIterator[Progress]:
        """Snapshots from now until the end, the last one included."""
        while True:
            changed = self._changed
            snapshot = self.snapshot()
            yield snapshot
            if snapshot.over:
                return
            await changed.wait()
            await asyncio.sleep(SNAPSHOT_INTERVAL_S)
