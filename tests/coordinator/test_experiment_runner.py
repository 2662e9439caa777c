"""The commands and their folders: what is interrupted goes on, what is finished is reported, nothing is overwritten."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil
import yaml
from fault_injection import free_port
from live_coordinator import averaged
from processes import NOOP, Process, bench, ended, listening, result_of, until

FEDERATION = {"devices": 2, "clients": 4, "clients_per_round": 4, "rounds": 3}


def _experiment(folder: Path, **federation: object) -> str:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({"federation": {**FEDERATION, **federation}, "target": {"value": 1.0}}))
    return str(path)


def _coordinator(folder: Path, *arguments: str, listen: str = "127.0.0.1:0", **env: str) -> Process:
    common = ["coordinator", "--out", str(folder / "out"), "--listen", listen]
    return Process([*NOOP, *common, *arguments], folder, {"NOOP_SCORES": "0", **env})


def _workers(folder: Path, address: str, **env: str) -> list[Process]:
    common = ["worker", "--coordinator", address, "--state", str(folder / "keys"), "--name"]
    return [Process([*NOOP, *common, name], folder, env) for name in ("a", "b")]


def _files(folder: Path) -> Mapping[str, tuple[int, bytes]]:
    """Every file's time and bytes, but for the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def _refused_beside(second: Process, command: str) -> None:
    """A command on a folder that another one is using."""
    assert second.wait(20) == 2
    (line,) = second.err.strip().splitlines()
    assert line.startswith(f"{command}: --out: another process is using")


# ---------------------------------------------------------------- federa-coordinator


def test_ctrl_c_ends_a_coordinator_with_130_and_the_same_command_goes_on_and_then_reports(tmp_path: Path) -> None:
    experiment, listen = _experiment(tmp_path), f"127.0.0.1:{free_port()}"
    env = {"NOOP_TRAIN_S": "0.2"}
    command = ["--experiment", experiment]
    first = _coordinator(tmp_path, *command, listen=listen)
    with ended(first), ExitStack() as workers:
        listening(first)
        _refused_beside(_coordinator(tmp_path, *command), "federa-coordinator")
        workers.enter_context(ended(*_workers(tmp_path, listen, **env)))
        until(lambda: (tmp_path / "out" / "result.json").exists(), "the first round")
        first.interrupt()
        assert first.wait(30) == 130, first.err
        (run,) = result_of(tmp_path / "out")["runs"]
        assert run["state"] == "stopped" and run["rounds"] >= 1 and run["test"] is None
        assert (tmp_path / "out" / "final" / "state.safetensors").exists()
        assert (tmp_path / "out" / "report.html").exists()
        assert "Traceback" not in first.err
        again = _coordinator(tmp_path, *command, listen=listen)
        with ended(again):
            assert again.wait(30) == 3, again.err
    (run,) = result_of(tmp_path / "out")["runs"]
    assert (run["state"], run["rounds"], run["restarts"]) == ("finished", 3, 1)
    assert [point["metrics"]["accuracy"] for point in run["curve"]] == [point["value"] for point in run["curve"]]
    assert run["test_metrics"]["accuracy"] == run["test"], "also where the coordinator evaluates"
    assert (tmp_path / "out" / "final" / "state.safetensors").read_bytes() == averaged(3, range(4))

    before = _files(tmp_path / "out")
    reported = _coordinator(tmp_path, *command)
    assert reported.wait(20) == 3
    assert f"{tmp_path / 'out'} holds this experiment's results already" in reported.err
    assert "did not reach accuracy 1" in reported.err
    # Another experiment has no business here.
    _experiment(tmp_path, rounds=4)
    other = _coordinator(tmp_path, *command)
    assert other.wait(20) == 2
    (line,) = other.err.strip().splitlines()
    assert "federation.rounds is 3 there, 4 here" in line and "nothing is overwritten" in line
    assert _files(tmp_path / "out") == before


# ---------------------------------------------------------------- federa-bench and a cluster


def _bench(folder: Path, address: str, *more: str) -> Process:
    settings = [f"federation.{name}={value}" for name, value in FEDERATION.items()]
    arguments = [word for setting in settings for word in ("--set", setting)]
    return bench(folder, "--coordinator", address, "--target-acc", "1", *arguments, *more)


def test_workers_stay_for_the_next_experiment_and_a_finished_one_is_reported(tmp_path: Path) -> None:
    coordinator = _coordinator(tmp_path, "--serve", NOOP_SCORES="1")
    with ended(coordinator):
        address = listening(coordinator)
        workers = _workers(tmp_path, address)
        with ended(*workers):
            for number in range(2):
                process = _bench(tmp_path / f"run-{number}", address)
                assert process.wait(30) == 0, process.err
                assert result_of(tmp_path / f"run-{number}")["runs"][0]["reached"]
            assert all(worker.popen.poll() is None for worker in workers)
            # The coordinator goes away: the workers wait, here until they are told to end.
            coordinator.interrupt()
            assert coordinator.wait(20) == 130
            workers[0].interrupt()
            assert workers[0].wait(20) == 130
            assert "Traceback" not in coordinator.err + workers[0].err
    # Nobody is asked for what is there already.
    before = _files(tmp_path / "run-0")
    again = _bench(tmp_path / "run-0", address)
    assert again.wait(20) == 0, again.err
    assert "holds this experiment's results already; nothing is run" in again.out
    assert "results: " in again.out
    assert _files(tmp_path / "run-0") == before


def test_a_benchmark_rides_through_a_kill_of_the_coordinator_that_serves(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    coordinator = _coordinator(tmp_path, "--serve", listen=listen)
    with ended(coordinator), ended(*_workers(tmp_path, listen, NOOP_TRAIN_S="0.2")):
        listening(coordinator)
        process = _bench(tmp_path / "run", listen)
        with ended(process):
            until(lambda: "round   1" in process.out, "the first round")
            coordinator.popen.send_signal(signal.SIGKILL)
            coordinator.popen.wait()
            again = _coordinator(tmp_path, "--serve", listen=listen)
            with ended(again):
                assert process.wait(40) == 3, process.err
    (run,) = result_of(tmp_path / "run")["runs"]
    assert (run["rounds"], run["state"], run["restarts"]) == (3, "finished", 1)
    experiment_id = json.loads((tmp_path / "run" / "experiment.json").read_text())["experiment_id"]
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == [experiment_id]
    assert run["run_id"] == f"{experiment_id}-federa"
    assert (tmp_path / "run" / "final" / "state.safetensors").read_bytes() == averaged(3, range(4))
    # Each round was shown once.
    assert [process.out.count(f"round   {number}") for number in (1, 2, 3)] == [1, 1, 1]


def test_an_interrupted_benchmark_goes_on_by_the_same_command(tmp_path: Path) -> None:
    coordinator = _coordinator(tmp_path, "--serve")
    with ended(coordinator):
        address = listening(coordinator)
        process = _bench(tmp_path / "run", address)
        until(lambda: "waiting" in process.out, "the run is submitted")
        _refused_beside(_bench(tmp_path / "run", address), "federa-bench")
        with ended(process, *_workers(tmp_path, address, NOOP_TRAIN_S="0.3")):
            until(lambda: "round   1" in process.out, "the first round")
            process.interrupt()
            assert process.wait(20) == 130, process.err
            assert result_of(tmp_path / "run")["runs"][0]["state"] == "stopped"
            again = _bench(tmp_path / "run", address)
            assert again.wait(30) == 3, again.err
    (run,) = result_of(tmp_path / "run")["runs"]
    assert (run["rounds"], run["state"]) == (3, "finished")
    assert (tmp_path / "run" / "final" / "state.safetensors").read_bytes() == averaged(3, range(4))


# ---------------------------------------------------------------- federa-bench and processes of its own


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
        os.kill(process.popen.pid, signal.SIGKILL)
        # The coordinator ends its run in order: it may be in the middle of loading the model.
        _, alive = psutil.wait_procs(family, timeout=90)
        assert not alive
