"""One key on two boards: the second worker is refused, the first goes on. A worker that is started again is let in."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

from processes import NOOP, Process, ended, listening, result_of, until

EXPERIMENT = {
    "federation": {"devices": 1, "clients": 2, "clients_per_round": 2, "rounds": 3},
    "target": {"value": 1.0},
}


def _worker(folder: Path, address: str, state: str, train_s: float) -> Process:
    arguments = ["worker", "--coordinator", address, "--name", "ada", "--power", "none", "--state", str(folder / state)]
    return Process([*NOOP, *arguments], folder, {"NOOP_TRAIN_S": str(train_s)})


def test_a_copied_state_folder_is_refused_and_a_killed_worker_is_not(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(json.dumps(EXPERIMENT))
    arguments = ["--experiment", str(tmp_path / "e.yaml"), "--out", str(tmp_path / "out"), "--listen", "127.0.0.1:0"]
    coordinator = Process([*NOOP, "coordinator", *arguments], tmp_path, {"NOOP_SCORES": "0"})
    with ended(coordinator):
        address = listening(coordinator)
        first = _worker(tmp_path, address, "first", 600)
        with ended(first):
            until(lambda: "prepared run" in first.err, "the first worker trains")
            shutil.copytree(tmp_path / "first", tmp_path / "copy")
            copy = _worker(tmp_path, address, "copy", 0)
            with ended(copy):
                assert copy.wait() == 2
                assert "the name 'ada' and its key are in use twice" in copy.err.splitlines()[-1]
                assert "a worker on this machine, or an image of it (127.0.0.1)" in copy.err.splitlines()[-1]
            assert first.err.count("connected to") == 1, "the first was not disturbed"
            first.popen.send_signal(signal.SIGKILL)
            first.wait()
        again = _worker(tmp_path, address, "copy", 0)
        with ended(again):
            assert coordinator.wait() == 3, coordinator.err
    assert "a second worker named ada with the same key" in coordinator.err
    (run,) = result_of(tmp_path / "out")["runs"]
    assert run["copied_keys"] == ["ada"] and run["rounds"] == 3 and run["setbacks"] == []
