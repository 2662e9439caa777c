"""Whole federations of real processes with a trainer that does nothing: bytes, order, interruption, memory."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest
import yaml
from processes import NOOP, Process, bench, ended, listening, result_of, until

MEGABYTE = 1 << 20


def _experiment(folder: Path, **federation: int) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({"federation": federation, "target": {"value": 1.0}}))
    return path


def _coordinator(folder: Path, env: Mapping[str, str], *arguments: str) -> Process:
    out = ["--out", str(folder / "out")]
    return Process([*NOOP, "coordinator", "--listen", "127.0.0.1:0", *out, *arguments], folder, env)


def _worker(folder: Path, address: str, name: str, env: Mapping[str, str], *arguments: str) -> Process:
    return Process([*NOOP, "worker", "--coordinator", address, "--name", name, *arguments], folder, env)


def _run(
    folder: Path, env: Mapping[str, str], workers: Sequence[str] = ("a", "b"), **federation: int
) -> tuple[Process, list[Process]]:
    """A federation to its end, which is the last round: its evaluations say 0."""
    env = {"NOOP_ACCURACY": "0", **env}
    coordinator = _coordinator(folder, env, "--experiment", str(_experiment(folder, **federation)))
    with ended(coordinator):
        address = listening(coordinator)
        joined = [_worker(folder, address, name, env) for name in workers]
        with ended(*joined):
            assert coordinator.wait() == 3, coordinator.err
            return coordinator, joined


def test_bytes_are_transfers_times_the_state_within_2_percent(tmp_path: Path) -> None:
    # 48 tensors of 25 kB: 1.2 MB.
    env = {"NOOP_TENSORS": "48", "NOOP_TENSOR_VALUES": "6250"}
    _run(tmp_path, env, devices=2, clients=6, clients_per_round=4, rounds=3)
    (run,) = result_of(tmp_path / "out")["runs"]
    assert run["state_bytes"] > 1.2e6
    ledger = sqlite3.connect(tmp_path / "out" / "ledger.sqlite")
    hosts = dict(ledger.execute("SELECT DISTINCT client, device FROM contribution"))
    rounds = ledger.execute("SELECT clients FROM round").fetchall()
    downs = sum(len({hosts[client] for client in yaml.safe_load(clients)}) for (clients,) in rounds)
    # A device that first takes part after round 1 needs the start state too, to form W_res from.
    first = dict(ledger.execute(
        "SELECT device, min(round) FROM contribution GROUP BY device"))  # fmt: skip
    downs += sum(1 for round_ in first.values() if round_ > 1)
    assert downs * run["state_bytes"] <= run["bytes_down"] <= 1.02 * downs * run["state_bytes"]
    ups = 3 * 4
    assert ups * run["state_bytes"] <= run["bytes_up"] <= 1.02 * ups * run["state_bytes"]
    assert run["control_bytes"] > 0


def test_the_result_does_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    states = []
    for number, slow in enumerate(("a", "b")):
        folder = tmp_path / str(number)
        folder.mkdir()
        env = {"NOOP_ACCURACY": "0", "NOOP_TENSOR_VALUES": "1000"}
        experiment = _experiment(folder, devices=2, clients=6, clients_per_round=6, rounds=3)
        coordinator = _coordinator(folder, env, "--experiment", str(experiment))
        with ended(coordinator):
            address = listening(coordinator)
            workers = [
                _worker(folder, address, name, {**env, "NOOP_TRAIN_S": "0.2" if name == slow else "0"})
                for name in ("a", "b")
            ]
            with ended(*workers):
                assert coordinator.wait() == 3, coordinator.err
        order = sqlite3.connect(folder / "out" / "ledger.sqlite").execute(
            "SELECT device FROM contribution WHERE round = 1 ORDER BY rowid"
        )
        assert next(order)[0] != slow, "the slow worker was to be last"
        states.append((folder / "out" / "final" / "state.safetensors").read_bytes())
    assert states[0] == states[1]


def test_workers_stay_for_the_next_experiment_of_a_coordinator_that_serves(tmp_path: Path) -> None:
    coordinator = _coordinator(tmp_path, {}, "--serve")
    with ended(coordinator):
        address = listening(coordinator)
        workers = [_worker(tmp_path, address, name, {}) for name in ("a", "b")]
        with ended(*workers):
            for number in range(2):
                process = bench(tmp_path / f"run-{number}", "--coordinator", address)
                assert process.wait() == 0, process.err
                assert result_of(tmp_path / f"run-{number}")["runs"][0]["reached"]
            assert all(worker.popen.poll() is None for worker in workers)
            # The coordinator goes away: the workers wait, here until they are told to end.
            coordinator.interrupt()
            assert coordinator.wait() == 130
            workers[0].interrupt()
            assert workers[0].wait() == 130
            assert "Traceback" not in coordinator.err + workers[0].err


def test_a_worker_that_is_killed_and_started_again_takes_part_in_the_same_run(tmp_path: Path) -> None:
    env = {"NOOP_ACCURACY": "0", "NOOP_TRAIN_S": "0.3"}
    experiment = _experiment(tmp_path, devices=2, clients=4, clients_per_round=4, rounds=4)
    coordinator = _coordinator(tmp_path, env, "--experiment", str(experiment))
    with ended(coordinator):
        address = listening(coordinator)
        first, other = (_worker(tmp_path, address, name, env) for name in ("a", "b"))
        with ended(first, other):
            until(lambda: list((tmp_path / "out" / "spool").glob("round-00002-*")), "the second round")
            first.popen.kill()
            first.popen.wait()
            until(lambda: "worker a left" in coordinator.err, "the coordinator sees it go")
            again = _worker(tmp_path, address, "a", env)
            with ended(again):
                assert coordinator.wait() == 3, coordinator.err
    (run,) = result_of(tmp_path / "out")["runs"]
    assert run["rounds"] == 4 and run["state"] == "finished"


def test_a_worker_that_fails_ends_the_run_with_its_words(tmp_path: Path) -> None:
    env = {"NOOP_TROUBLE": "the cat sat on the GPU"}
    experiment = _experiment(tmp_path, devices=1, clients=2, clients_per_round=2, rounds=4)
    coordinator = _coordinator(tmp_path, env, "--experiment", str(experiment))
    with ended(coordinator), ended(_worker(tmp_path, listening(coordinator), "a", env)):
        assert coordinator.wait() == 1
    assert "worker a, client" in coordinator.err and "the cat sat on the GPU" in coordinator.err
    (run,) = result_of(tmp_path / "out")["runs"]
    assert run["state"] == "failed" and "the cat" in run["failure"]


def test_ctrl_c_ends_a_coordinator_with_130_and_a_readable_result(tmp_path: Path) -> None:
    env = {"NOOP_ACCURACY": "0", "NOOP_TRAIN_S": "0.2"}
    experiment = _experiment(tmp_path, devices=1, clients=2, clients_per_round=2, rounds=1000)
    coordinator = _coordinator(tmp_path, env, "--experiment", str(experiment))
    with ended(coordinator), ended(_worker(tmp_path, listening(coordinator), "a", env)):
        until(lambda: (tmp_path / "out" / "result.json").exists(), "the first round")
        coordinator.interrupt()
        assert coordinator.wait(30) == 130, coordinator.err
    (run,) = result_of(tmp_path / "out")["runs"]
    assert run["state"] == "stopped" and run["rounds"] >= 1 and run["test"] is None
    assert (tmp_path / "out" / "final" / "state.safetensors").exists()
    assert (tmp_path / "out" / "report.html").exists()
    assert "Traceback" not in coordinator.err


def test_ctrl_c_ends_a_benchmark_with_130_all_its_processes_and_a_readable_result(tmp_path: Path) -> None:
    process = bench(tmp_path / "run")
    with ended(process):
        until(lambda: len(process.family()) == 4, "coordinator and workers")
        family = process.family()
        until(lambda: "preparing" in process.out, "the run is submitted")
        process.interrupt()
        assert process.wait(60) == 130, process.err
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive
    assert result_of(tmp_path / "run")["runs"][0]["state"] == "stopped"
    assert "Traceback" not in process.err


def test_a_worker_process_that_dies_ends_the_benchmark_with_1_and_says_which(tmp_path: Path) -> None:
    process = bench(tmp_path / "run")
    with ended(process):
        until(lambda: len(process.family()) == 4, "coordinator and workers")
        until(lambda: "preparing" in process.out, "the run is submitted")
        victim = next(child for child in process.family() if "worker-1" in child.cmdline())
        family = process.family()
        victim.kill()
        assert process.wait(60) == 1
        assert "worker-1 ended with -9" in process.err
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive


def test_nothing_goes_on_when_the_benchmark_itself_is_killed(tmp_path: Path) -> None:
    process = bench(tmp_path / "run")
    with ended(process):
        until(lambda: len(process.family()) == 4, "coordinator and workers")
        family = process.family()
        process.popen.kill()
        # The coordinator ends its run in order: it may be in the middle of loading the model.
        _, alive = psutil.wait_procs(family, timeout=90)
        assert not alive


def _peak_bytes(process: Process) -> int:
    lines = Path(f"/proc/{process.popen.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.slow
def test_the_coordinator_s_memory_does_not_grow_with_the_number_of_clients(tmp_path: Path) -> None:
    peaks = {}
    for clients in (2, 50):
        folder = tmp_path / str(clients)
        folder.mkdir()
        # 20 MB a state; the last evaluation takes long enough to read the peak.
        env = {"NOOP_TENSORS": "20", "NOOP_TENSOR_VALUES": "250000", "NOOP_ACCURACY": "0", "NOOP_EVALUATE_S": "1.5"}
        experiment = _experiment(folder, devices=2, clients=clients, clients_per_round=clients, rounds=2)
        coordinator = _coordinator(folder, env, "--experiment", str(experiment))
        with ended(coordinator):
            address = listening(coordinator)
            workers = [_worker(folder, address, name, env) for name in ("a", "b")]
            with ended(*workers):
                while coordinator.popen.poll() is None:
                    try:
                        peaks[clients] = _peak_bytes(coordinator)
                    except (OSError, StopIteration):
                        break
                    time.sleep(0.1)
                assert coordinator.wait() == 3, coordinator.err
    assert peaks[50] < peaks[2] + 32 * MEGABYTE, {clients: peak / MEGABYTE for clients, peak in peaks.items()}
