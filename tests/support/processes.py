"""Real processes for end-to-end tests: started in a session of their own, always ended by their own pid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
NOOP = ("-m", "tests.doubles.noop")
DEADLINE_S = 120.0


class Process:
    """A command of ours. `out` and `err` hold what it has printed so far."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self._files = [folder / f"{time.monotonic_ns()}.{kind}" for kind in ("out", "err")]
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self.popen = subprocess.Popen(
                [*prefix, sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        return self._files[1].read_text()

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        """Its exit code."""
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s\n{self.out}\n{self.err}") from None

    def family(self) -> list[psutil.Process]:
        """Itself and all that it started."""
        itself = psutil.Process(self.popen.pid)
        return [itself, *itself.children(recursive=True)]

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.popen.send_signal(signal.SIGINT)

    def end(self) -> None:
        end(self)


def end(*processes: Process) -> None:
    """End what still runs of these: all are asked at once, and killed after ten seconds."""
    for process in processes:
        if process.popen.poll() is None:
            process.popen.terminate()
    for process in processes:
        try:
            process.popen.wait(10)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            process.popen.wait()


def until(true: Callable[[], object], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Wait until `true()` is."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, f"waited {timeout_s} s in vain: {what}"
        time.sleep(0.05)


@contextmanager
def ended(*processes: Process) -> Iterator[None]:
    """End these processes, whatever happens inside."""
    try:
        yield
    finally:
        end(*processes)


def bench(folder: Path, *arguments: str) -> Process:
    """federa-bench with --out `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Process(["-m", "benchmarks.bench", "--out", str(folder), *arguments], folder.parent)


def listening(coordinator: Process) -> str:
    """The address that a coordinator printed."""
    until(lambda: "listening on" in coordinator.out or coordinator.popen.poll() is not None, "the coordinator listens")
    assert "listening on" in coordinator.out, coordinator.err
    return coordinator.out.split()[-1]


def result_of(folder: Path) -> dict[str, Any]:
    """result.json of a folder, checked to be strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    tree: dict[str, Any] = json.loads((folder / "result.json").read_text(), parse_constant=refuse)
    return tree
