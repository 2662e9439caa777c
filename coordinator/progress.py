"""What an experiment is doing now, for everybody who watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

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
        """Show what the run under way does now."""
        self.run.stage, self.run.note = stage, note
        self.touch()

    def begin_round(self, round_: int, expected: int, updates: int = 0) -> None:
        """Show a round that has so many of the updates that it waits for."""
        self.run.round, self.run.expected, self.run.updates = round_, expected, updates
        self.touch()

    def count_update(self) -> None:
        """Show one update more."""
        self.run.updates += 1
        self.touch()

    def wait_for(self, devices: Sequence[str], failure: str = "") -> bool:
        """Show which devices are away that a round waits for, and what failed last in it; False, and nothing, while it
        does not train."""
        if self.run.stage != "training":
            return False
        note = f"waiting for {', '.join(devices)}" if devices else ""
        self.run.note = f"{note}; last failure: {failure}" if note and failure else note
        self.touch()
        return True

    def count_bytes(self, bytes_down: int, bytes_up: int) -> None:
        """Show the bytes of states that have moved."""
        self.run.bytes_down, self.run.bytes_up = bytes_down, bytes_up
        self.touch()

    def reached(self, value: float, elapsed_s: float, wire_bytes: int) -> None:
        """Show a round's metric, with the clock and the bytes of all rounds until then."""
        self.run.values.append(value)
        self.run.elapsed_after_s.append(elapsed_s)
        self.run.bytes_after.append(wire_bytes)
        self.run.elapsed_s = elapsed_s
        self.touch()

    def worker(self, name: str) -> WorkerProgress:
        """A worker's entry, made when it is first asked for."""
        return self._workers.setdefault(name, WorkerProgress(name=name))

    def finish(self, outcome: Outcome, files: list[str]) -> None:
        """Show that nothing more happens."""
        self._progress.over = True
        self._progress.outcome.CopyFrom(outcome)
        self._progress.files.extend(files)
        self.touch()

    def say(self, text: str) -> None:
        """Show something about the run under way that is said once, such as what its data is."""
        self.run.facts.append(text)
        self.touch()

    def warn(self, text: str) -> None:
        """Show something that the operator should know of, once."""
        if text not in self._progress.warnings:
            self._progress.warnings.append(text)
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
