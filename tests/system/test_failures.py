"""What goes wrong for everybody ends a run on a cluster with its reason and exit code, and nobody is left waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from fault_injection import free_port
from processes import NOOP, Process, bench, ended, listening, result_of, until

ENDS_S = 40.0
"""Far more than a run with nothing to do needs: before, the operator waited for ever."""
FEDERATION = ("devices=2", "clients=4", "clients_per_round=4", "rounds=2")


def _serve(folder: Path, env: Mapping[str, str], listen: str = "127.0.0.1:0") -> Process:
    arguments = ["coordinator", "--serve", "--out", str(folder / "served"), "--listen", listen]
    return Process([*NOOP, *arguments], folder, {"NOOP_SCORES": "0", **env})


def _worker(folder: Path, address: str, name: str, env: Mapping[str, str]) -> Process:
    arguments = ["worker", "--coordinator", address, "--state", str(folder / "keys"), "--name", name]
    return Process([*NOOP, *arguments], folder, env)


def _submit(folder: Path, address: str, *settings: str, out: str = "out") -> Process:
    every = [*(f"federation.{setting}" for setting in FEDERATION), *settings]
    words = [word for setting in every for word in ("--set", setting)]
    return bench(folder / out, "--coordinator", address, "--target-acc", "1", *words)


def _last_line(process: Process) -> str:
    (line,) = [line for line in process.err.splitlines() if line.startswith("federa-bench: ")]
    return line


@pytest.mark.parametrize(
    ("env", "settings", "code", "words"),
    [
        ({"NOOP_SETUP_FAILURE": "no such file: x.csv"}, (), 2, ["worker ", "preparing: no such file: x.csv"]),
        (
            {"NOOP_FAILURE": "no kernel image"}, (), 1,
            ["round 1: every client fails in the same way: client 0 on ", ": no kernel image"],
        ),
        (
            {"NOOP_EVALUATE_FAILURE": "shape mismatch"}, ("evaluation=devices",), 1,
            ["round 1: the validation part cannot be scored", "client 0 on ", "RuntimeError: shape mismatch"],
        ),
        ({"NOOP_EVALUATE_FAILURE": "shape mismatch"}, (), 1, ["RuntimeError: shape mismatch"]),
    ],
    ids=["set-up", "first batch", "first evaluation", "the coordinator's evaluation"],
)  # fmt: skip
def test_an_error_that_everybody_has_ends_the_run_on_a_cluster(
    tmp_path: Path, env: dict[str, str], settings: Sequence[str], code: int, words: list[str]
) -> None:
    coordinator = _serve(tmp_path, env)
    with ended(coordinator):
        address = listening(coordinator)
        workers = [_worker(tmp_path, address, name, env) for name in ("a", "b")]
        with ended(*workers):
            process = _submit(tmp_path, address, *settings)
            with ended(process):
                assert process.wait(ENDS_S) == code, process.err
            line = _last_line(process)
            assert all(word in line for word in words), line
            (run,) = result_of(tmp_path / "out")["runs"]
            assert run["state"] == "failed" and run["failure"] in line
            assert (tmp_path / "out" / "report.html").exists()
            until(lambda: all("released run" in worker.err for worker in workers), "the workers wait for the next run")
            # The next command reads the reason from the folder, too, and the workers are there for another one.
            report = Process(["-m", "benchmarks.report", str(tmp_path / "out")], tmp_path)
            assert report.wait() == 0 and words[-1] in "".join((report.out + report.err).splitlines())
            assert all(worker.popen.poll() is None for worker in (*workers, coordinator))


def test_as_many_devices_as_a_run_begins_with_fail_while_others_are_expected(tmp_path: Path) -> None:
    coordinator = _serve(tmp_path, {})
    with ended(coordinator):
        address = listening(coordinator)
        with ended(_worker(tmp_path, address, "a", {"NOOP_SETUP_FAILURE": "no such file: x.csv"})):
            process = _submit(tmp_path, address, "federation.min_devices=1")
            with ended(process):
                assert process.wait(ENDS_S) == 2, process.err
            assert _last_line(process) == "federa-bench: worker a, preparing: no such file: x.csv"


def test_a_run_goes_on_without_a_device_that_cannot_prepare_and_says_so(tmp_path: Path) -> None:
    coordinator = _serve(tmp_path, {})
    with ended(coordinator):
        address = listening(coordinator)
        broken = _worker(tmp_path, address, "a", {"NOOP_SETUP_FAILURE": "no such file: x.csv"})
        with ended(broken, _worker(tmp_path, address, "b", {})):
            settings = ("federation.min_devices=1", "federation.clients_per_round=2", "federation.quorum=2")
            process = _submit(tmp_path, address, *settings)
            with ended(process):
                assert process.wait(ENDS_S) == 3, process.err
    (run,) = result_of(tmp_path / "out")["runs"]
    assert run["rounds"] == 2
    assert {(row["round"], row["device"], row["reason"]) for row in run["setbacks"]} <= {
        (0, "a", "its worker cannot take part: no such file: x.csv"),
        (1, "a", "its worker cannot take part: no such file: x.csv"),
    }


@pytest.mark.slow
def test_a_coordinator_that_is_killed_while_everybody_fails_ends_the_run_all_the_same(tmp_path: Path) -> None:
    listen, env = f"127.0.0.1:{free_port()}", {"NOOP_FAILURE": "no kernel image", "NOOP_TRAIN_S": "1"}
    with ExitStack() as stack:
        first = _serve(tmp_path, {}, listen)
        stack.enter_context(ended(first))
        listening(first)
        stack.enter_context(ended(*(_worker(tmp_path, listen, name, env) for name in ("a", "b"))))
        process = _submit(tmp_path, listen)
        stack.enter_context(ended(process))
        until(lambda: "no kernel image" in first.err, "the first failure")
        first.popen.kill()
        first.popen.wait()
        second = _serve(tmp_path, {}, listen)
        stack.enter_context(ended(second))
        assert process.wait(2 * ENDS_S) == 1, process.err
        assert "round 1: every client fails in the same way" in _last_line(process)
