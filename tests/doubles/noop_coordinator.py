"""A coordinator's process with one experiment that trains nothing, watched from its first word to its last."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.footprint import Footprint
from coordinator.operator.child import Child
from federa.errors import EXIT_TARGET_MISSED, FederaError


class NoopCoordinator:
    """A real federa-coordinator with tests.doubles.noop's reference model: entered, it listens on `address`. All that
    it leaves lies in `folder`."""

    def __init__(self, folder: Path, experiment: Mapping[str, Any], env: Mapping[str, str]) -> None:
        self._folder = folder
        self._experiment = experiment
        # A target that is never reached: it goes on to its last round.
        self._env = {"NOOP_SCORES": "0", **env}

    def __enter__(self) -> NoopCoordinator:
        self._folder.mkdir(parents=True)
        file = self._folder / "experiment.yaml"
        file.write_text(yaml.safe_dump(dict(self._experiment)))
        out = ["--experiment", str(file), "--out", str(self._folder / "out"), "--listen", "127.0.0.1:0"]
        self._child = Child(["tests.doubles.noop", "coordinator", *out], self._folder / "coordinator.log", self._env)
        try:
            self.address = self._child.receive("listening on")
            self.footprint = Footprint(self._child.pid)
        except BaseException:
            self._child.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self.footprint.stop()

    def finish(self, timeout_s: float, beside: Sequence[Child] = ()) -> dict[str, Any]:
        """Wait for the last round and return the run's entry of result.json. Raises FederaError when it ended in any
        other way, or one of the processes beside it failed."""
        end = time.monotonic() + timeout_s
        while (code := self._child.code) is None:
            if time.monotonic() > end:
                raise self._child.failure(f"was not over after {timeout_s:.0f} s")
            for child in beside:
                if child.code:
                    raise child.failure(f"ended with {child.code}")
            time.sleep(0.05)
        if code != EXIT_TARGET_MISSED:
            raise self._child.failure(f"ended with {code}")
        (run,) = json.loads((self._folder / "out" / "result.json").read_text())["runs"]
        return dict(run)


def round_seconds(run: Mapping[str, Any]) -> list[float]:
    """From a round's announcement until its new state is durable, for each round after the first: in that one the
    workers also get ready."""
    elapsed = [point["elapsed_s"] for point in run["curve"]]
    return [after - before for before, after in itertools.pairwise(elapsed)]


def check_bytes(run: Mapping[str, Any], transfers: int, newcomers: int = 0) -> None:
    """Raises FederaError when a round after the first did not move so many states each way, within 2 %: its seconds
    would say nothing. Up to `newcomers` workers a round fetch the start state as well, with their first order."""
    for before, after in itertools.pairwise(run["curve"]):
        for way, more in (("bytes_down", newcomers), ("bytes_up", 0)):
            moved, least = after[way] - before[way], transfers * run["state_bytes"]
            if not least <= moved <= 1.02 * (least + more * run["state_bytes"]):
                raise FederaError(f"round {after['round']} counts {moved} {way}, {least} were to move")
