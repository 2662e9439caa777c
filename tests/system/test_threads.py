"""Workers that are started by hand on one machine share its cores, and the result says with how many threads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Process, bench, ended, listening, result_of, until

from federa.cores import count_cores


@pytest.mark.slow
def test_the_threads_of_each_run_are_the_workers_shares_when_it_was_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    documents = tmp_path / "documents.jsonl"
    rows = [{"text": f"the {label} {number}", "label": label} for number in range(20) for label in ("match", "bank")]
    documents.write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = [
        "--model", tiny_folder("bert"), "--data", str(documents), "--clients", "2", "--method", "federa",
        "--precision", "fp32", "--set", "lora.r=4", "--set", "data.max_length=16", "--target-acc", "1", "--rounds", "1",
    ]  # fmt: skip
    out = ["--out", str(tmp_path / "serve")]
    coordinator = Process(["-m", "coordinator.main", "--serve", *out, "--listen", "127.0.0.1:0"], tmp_path)
    cores = count_cores().count

    def worker(name: str) -> Process:
        common = ["--coordinator", address, "--name", name, "--state", str(tmp_path / "keys"), "--power", "none"]
        return Process(["-m", "edge.main", *common], tmp_path)

    def threads(name: str, devices: int) -> list[str]:
        """With how many threads each device computed in a run."""
        command = bench(tmp_path / name, *small, "--devices", str(devices), "--coordinator", address)
        assert command.wait() in (0, 3), command.err
        (run,) = result_of(tmp_path / name)["runs"]
        return [device["facts"]["threads"] for device in run["devices"]]

    with ended(coordinator):
        address = listening(coordinator)
        ada = worker("ada")
        with ended(ada):
            assert threads("alone", 1) == [str(cores)]
            bob = worker("bob")
            with ended(bob):
                until(lambda: "connected to" in bob.err, "bob joins")
                share = max(1, cores // 2)
                assert threads("both", 2) == [str(share)] * 2
    word = "thread" if cores == 1 else "threads"
    assert f"computing on CPU, {cores} {word}" in ada.err
    assert f": {share} ({count_cores()}, shared with 1 other worker on this machine: bob)" in ada.err
