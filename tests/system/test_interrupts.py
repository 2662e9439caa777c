"""Ctrl-C at any moment: while a command imports, while it works, and a second time while it ends."""

from __future__ import annotations

import configparser
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from processes import DEADLINE_S, NOOP, ROOT, Process, bench, ended, listening, until

from federa.stop_signals import SAME_S

_config = configparser.ConfigParser()
_config.read(ROOT / "setup.cfg")
SCRIPTS = dict(re.findall(r"^(\S+) = (\S+)$", _config["options.entry_points"]["console_scripts"], re.MULTILINE))
ARGUMENTS = {
    "federa-bench": ["--print-config"],
    "federa-coordinator": ["--serve", "--out", "OUT"],
    "federa-worker": ["--coordinator", "127.0.0.1:9", "--name", "ada", "--power", "none", "--state", "OUT"],
    "federa-report": ["OUT"],
    "federa-certs": ["--help"],
}


def _interrupted_at(command: list[str], module: str, number: int) -> tuple[int, str]:
    """The exit code and what was printed of a command that is sent a signal when it has imported a module."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("import time:") and line.split("|")[-1].strip() == module:
                process.send_signal(number)
                break
        else:
            raise AssertionError(f"{command} never imported {module}")
        _, printed = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, "".join(line for line in printed.splitlines(True) if "import time:" not in line)


@pytest.mark.parametrize(
    ("script", "module"),
    [
        ("federa-bench", "argparse"), ("federa-bench", "benchmarks.arguments"),
        ("federa-coordinator", "argparse"), ("federa-coordinator", "grpc"),
        ("federa-worker", "argparse"), ("federa-worker", "torch._C"),
        ("federa-report", "argparse"), ("federa-report", "numpy"),
        ("federa-certs", "argparse"), ("federa-certs", "cryptography.x509"),
    ],
)  # fmt: skip
def test_ctrl_c_during_the_imports_ends_a_command_with_130_and_no_traceback(
    tmp_path: Path, script: str, module: str
) -> None:
    home, name = SCRIPTS[script].split(":")
    # As the scripts do that pip makes.
    code = f"import sys; from {home} import {name}; sys.exit({name}())"
    arguments = [str(tmp_path) if argument == "OUT" else argument for argument in ARGUMENTS[script]]
    assert _interrupted_at(["-c", code, *arguments], module, signal.SIGINT) == (130, "")


@pytest.mark.parametrize(("module", "code"), [("benchmarks.bench", 130), ("edge.main", 0), ("coordinator.main", 0)])
def test_a_signal_during_the_imports_of_a_module_that_is_run_ends_it_too(
    tmp_path: Path, module: str, code: int
) -> None:
    assert _interrupted_at(["-m", module, "--help"], "grpc", signal.SIGINT) == (130, "")
    assert _interrupted_at(["-m", module, "--help"], "grpc", signal.SIGTERM) == (code, "")


def test_a_second_ctrl_c_ends_a_benchmark_at_once_with_all_its_processes(tmp_path: Path) -> None:
    process = bench(tmp_path / "run")
    with ended(process):
        until(lambda: "preparing" in process.out, "the run is submitted")
        family = process.family()
        assert len(family) == 4
        coordinator = next(child for child in family if "coordinator.main" in child.cmdline())
        coordinator.suspend()  # it does not end in order, however long it is waited for
        process.interrupt()
        until(lambda: "ending the run in order; Ctrl-C again ends it at once" in process.err, "it ends in order")
        time.sleep(2 * SAME_S)
        process.interrupt()
        assert process.wait() == 130
        _, alive = psutil.wait_procs(family, timeout=DEADLINE_S)
        assert not alive
    assert "Traceback" not in process.out + process.err
    # What is there can be read, and gone on with.
    (folder,) = (path.parent for path in (tmp_path / "run" / "coordinator").rglob("ledger.sqlite"))
    report = Process(["-m", "benchmarks.report", str(folder), "--out", str(tmp_path / "page.html")], tmp_path)
    with ended(report):
        assert report.wait() == 0, report.err


def test_a_second_signal_ends_a_coordinator_whose_evaluation_does_not_end(tmp_path: Path) -> None:
    tree = {"federation": {"devices": 1, "clients": 1, "clients_per_round": 1, "rounds": 9}, "target": {"value": 1.0}}
    (tmp_path / "e.yaml").write_text(json.dumps(tree))
    arguments = ["--experiment", str(tmp_path / "e.yaml"), "--out", str(tmp_path / "out"), "--listen", "127.0.0.1:0"]
    env = {"NOOP_SCORES": "0", "NOOP_EVALUATE_S": str(2 * DEADLINE_S)}
    coordinator = Process([*NOOP, "coordinator", *arguments], tmp_path, env)
    with ended(coordinator):
        worker = ["worker", "--coordinator", listening(coordinator), "--name", "ada", "--power", "none"]
        with ended(Process([*NOOP, *worker, "--state", str(tmp_path / "state")], tmp_path)):
            ledger = tmp_path / "out" / "ledger.sqlite"
            until(lambda: ledger.exists() and len(list((tmp_path / "out" / "states").iterdir())) > 1, "round 1 is over")
            coordinator.interrupt()
            until(lambda: "a second signal ends it at once" in coordinator.err, "it ends in order")
            time.sleep(2 * SAME_S)
            coordinator.interrupt()
            assert coordinator.wait() == 130
    assert "Traceback" not in coordinator.err
