"""With how many CPU threads a worker computes: chosen at a run's set-up, and the same until its end."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from edge.worker.host_workers import HostWorker, HostWorkers, fair_share
from edge.worker.identity import file_name
from federa.compute_threads import MAX_THREADS, THREADS_VARIABLE, environment_threads
from federa.durable import write_file
from federa.errors import BadInput, shown

log = logging.getLogger("federa.worker")

AUTO = "auto"
_MAX_RUNS = 16  # that are remembered


def parse_threads(text: str) -> int:
    """What --threads says: a number, or 0 for auto. Raises BadInput."""
    if text in ("", AUTO):  # a compose file may pass an empty variable on
        return 0
    if not (text.isdecimal() and text.isascii() and 1 <= int(text) <= MAX_THREADS):
        raise BadInput(f"--threads: must be {AUTO}, or a number from 1 to {MAX_THREADS}, not {shown(text)}")
    return int(text)


def choose_threads(asked: int, own: HostWorker, others: Sequence[HostWorker]) -> tuple[int, str]:
    """The number of threads for now, and why. `asked` is --threads', 0 for auto: then the environment's, or this
    worker's share of the machine's cores."""
    told = asked or environment_threads()
    if told:
        why = "as asked" if asked else f"as {THREADS_VARIABLE} says"
        return told, why + (f", on {own.cores}" if told > own.cores.count else "")
    why = str(own.cores)
    if others:
        names = ", ".join(sorted(shown(other.name) for other in others))
        why += f", shared with {len(others)} other worker{'s' if len(others) > 1 else ''} on this machine: {names}"
    return fair_share(own, others), why


class RunThreads:
    """A context in which this process counts as one of the machine's workers. A run's number of threads stays as it
    was first chosen, over restarts of this worker too: with another one its sums would differ in their last bits."""

    def __init__(self, asked: int, folder: Path, name: str) -> None:
        """`asked` is --threads', 0 for auto. The runs' numbers are kept in `folder`, for the worker of that name."""
        self._asked = asked
        self._workers = HostWorkers(name, threads=asked or environment_threads())
        self._path = folder / f".{file_name(name)}.threads.json"

    def __enter__(self) -> RunThreads:
        self._workers.register()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._workers.leave()

    def now(self) -> tuple[int, str]:
        """What a run that began now would get, and why."""
        threads, why = choose_threads(self._asked, self._workers.register(), self._workers.others())
        if self._workers.problem:
            why += f"; other workers on this machine do not know of this one: {shown(self._workers.problem)}"
        return threads, why

    def of(self, run_id: str) -> int:
        """The run's number."""
        threads, why = self.now()
        if not (self._asked or environment_threads()):
            runs = self._read()
            if run_id in runs:
                threads, why = runs[run_id], "as when this run began"
            else:
                self._write({**runs, run_id: threads})
        log.info("CPU threads for run %s: %d (%s)", run_id, threads, why)
        return threads

    def _read(self) -> dict[str, int]:
        try:
            runs = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        good = isinstance(runs, dict) and all(isinstance(n, int) and 1 <= n <= MAX_THREADS for n in runs.values())
        return runs if good else {}

    def _write(self, runs: dict[str, int]) -> None:
        kept = dict(list(runs.items())[-_MAX_RUNS:])
        try:
            write_file(self._path, json.dumps(kept).encode(), mode=0o600)
        except OSError as error:
            log.warning("cannot keep the number of threads in %s: %s; after a restart of this worker it may be another",
                        self._path, error.strerror)  # fmt: skip
