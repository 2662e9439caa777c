"""Whole federations of real processes that train nothing: bytes, order, workers that fail, freeze or come back."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest
import yaml
from live_coordinator import averaged
from processes import NOOP, Process, ended, listening, result_of, until

from protos import federation_pb2 as pb
from protos.federation_pb2_grpc import OperatorServiceStub

MEGABYTE = 1 << 20


def _coordinator(folder: Path, env: Mapping[str, str], **federation: object) -> Process:
    """A coordinator that runs one experiment to its last round: its evaluations give 0."""
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({"federation": federation, "target": {"value": 1.0}}))
    out = ["--experiment", str(path), "--out", str(folder / "out"), "--listen", "127.0.0.1:0"]
    return Process([*NOOP, "coordinator", *out], folder, {"NOOP_SCORES": "0", **env})


def _worker(folder: Path, address: str, name: str, env: Mapping[str, str] | None = None, keys: str = "keys") -> Process:
    arguments = ["worker", "--coordinator", address, "--name", name, "--state", str(folder / keys)]
    return Process([*NOOP, *arguments], folder, env)


@contextmanager
def _federation(
    folder: Path, env: Mapping[str, str], workers: Sequence[str] = ("a", "b"), **federation: object
) -> Iterator[tuple[Process, str, dict[str, Process]]]:
    """The coordinator, its address, and the workers by name."""
    coordinator = _coordinator(folder, env, **federation)
    with ended(coordinator):
        address = listening(coordinator)
        joined = {name: _worker(folder, address, name, env) for name in workers}
        with ended(*joined.values()):
            yield coordinator, address, joined


def _ledger(folder: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{folder}/out/ledger.sqlite?mode=ro", uri=True)) as ledger:
        return ledger.execute(query).fetchall()


def _final(folder: Path) -> bytes:
    return (folder / "out" / "final" / "state.safetensors").read_bytes()


def _failures(folder: Path) -> list[tuple[str, int, str, str]]:
    (run,) = result_of(folder / "out")["runs"]
    return [(row["kind"], row["client"], row["device"], row["reason"]) for row in run["setbacks"]]


def test_bytes_are_transfers_times_the_state_within_2_percent(tmp_path: Path) -> None:
    # 48 tensors of 25 kB: 1.2 MB.
    env = {"NOOP_TENSORS": "48", "NOOP_TENSOR_VALUES": "6250"}
    with _federation(tmp_path, env, devices=2, clients=6, clients_per_round=4, rounds=3) as (coordinator, _, _):
        assert coordinator.wait() == 3, coordinator.err
    (run,) = result_of(tmp_path / "out")["runs"]
    assert run["state_bytes"] > 1.2e6
    hosts = dict(_ledger(tmp_path, "SELECT DISTINCT client, device FROM contribution"))
    rounds = _ledger(tmp_path, "SELECT clients FROM attempt")
    downs = sum(len({hosts[client] for client in json.loads(str(clients))}) for (clients,) in rounds)
    # A device that first takes part after round 1 needs the start state too, to form W_res from.
    first = dict(_ledger(tmp_path, "SELECT device, min(round) FROM contribution GROUP BY device"))
    downs += sum(1 for round_ in first.values() if round_ != 1)
    assert downs * run["state_bytes"] <= run["bytes_down"] <= 1.02 * downs * run["state_bytes"]
    ups = 3 * 4
    assert ups * run["state_bytes"] <= run["bytes_up"] <= 1.02 * ups * run["state_bytes"]
    assert run["control_bytes"] > 0


def test_the_result_does_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    for slow in ("a", "b"):
        folder = tmp_path / slow
        folder.mkdir()
        coordinator = _coordinator(folder, {}, devices=2, clients=6, clients_per_round=6, rounds=3)
        with ended(coordinator):
            address = listening(coordinator)
            env = {name: {"NOOP_TRAIN_S": "0.2" if name == slow else "0"} for name in ("a", "b")}
            with ended(*(_worker(folder, address, name, env[name]) for name in ("a", "b"))):
                assert coordinator.wait() == 3, coordinator.err
        order = _ledger(folder, "SELECT device FROM contribution WHERE round = 1 ORDER BY rowid")
        assert order[0][0] != slow, "the slow worker was to be last"
        assert _final(folder) == averaged(3, range(6))


# ---------------------------------------------------------------- workers that come back


def test_a_worker_that_is_killed_takes_its_name_back_at_once(tmp_path: Path) -> None:
    env = {"NOOP_TRAIN_S": "0.3"}
    federation = {"devices": 2, "clients": 4, "clients_per_round": 4, "rounds": 3}
    with _federation(tmp_path, env, **federation) as (coordinator, address, workers):
        until(lambda: list((tmp_path / "out" / "spool").glob("round-00002-*")), "the second round")
        workers["a"].popen.kill()
        with ended(_worker(tmp_path, address, "a", env)):
            assert coordinator.wait(30) == 3, coordinator.err
    (run,) = result_of(tmp_path / "out")["runs"]
    assert run["rounds"] == 3 and run["state"] == "finished" and run["setbacks"] == []
    assert _final(tmp_path) == averaged(3, range(4))


def test_a_stranger_is_refused_under_a_live_name_and_under_one_of_the_run(tmp_path: Path) -> None:
    # As long as the round's only worker lives, it trains: however slowly the strangers start.
    with _federation(tmp_path, {"NOOP_TRAIN_S": "600"}, ["a"], devices=1, clients=2, clients_per_round=2, rounds=1) as (
        coordinator, address, workers,
    ):  # fmt: skip
        until(lambda: "prepared run" in workers["a"].err, "the run is under way")

        def refused(*words: str) -> None:
            stranger = _worker(tmp_path, address, "a", keys="other-keys")
            assert stranger.wait(20) == 2
            assert stranger.out == ""
            (line,) = [line for line in stranger.err.splitlines() if line.startswith("federa-worker:")]
            assert "Traceback" not in stranger.err
            for word in ("'a'", "--name", *words):
                assert word in line

        refused("another worker")
        workers["a"].popen.kill()
        workers["a"].popen.wait()
        until(lambda: "worker a left" in coordinator.err, "the coordinator sees it go")
        refused("belongs to another worker of the run under way", "--state")
        with ended(_worker(tmp_path, address, "a")):
            assert coordinator.wait(30) == 3, coordinator.err
    assert _final(tmp_path) == averaged(1, range(2))


def test_a_frozen_worker_is_not_waited_for_past_the_deadline_and_takes_part_again_when_it_wakes(tmp_path: Path) -> None:
    deadline_s = 1.5
    federation = {"devices": 2, "clients": 4, "clients_per_round": 4, "rounds": 1000}
    with _federation(tmp_path, {"NOOP_TRAIN_S": "0.1"}, **federation, quorum=1, deadline_s=deadline_s) as (
        coordinator, _, workers,
    ):  # fmt: skip

        def rounds(who: str) -> list[int]:
            """Rounds that it has contributed to."""
            return [
                int(str(row[0])) for row in _ledger(tmp_path, f"SELECT round FROM contribution WHERE device='{who}'")
            ]

        # The file is there before its tables are.
        tables = "SELECT 1 FROM sqlite_master WHERE name = 'contribution'"
        until(lambda: (tmp_path / "out" / "ledger.sqlite").exists() and _ledger(tmp_path, tables), "a ledger")
        until(lambda: 2 in rounds("b"), "the second round")
        os.kill(workers["b"].popen.pid, signal.SIGSTOP)
        asleep_from = max(rounds("b"))
        until(
            lambda: "missing" in str(_ledger(tmp_path, "SELECT kind FROM client_failure")),
            "a round is closed without it",
        )
        until(lambda: max(rounds("a")) >= asleep_from + 2, "the others go on")
        os.kill(workers["b"].popen.pid, signal.SIGCONT)
        woken_in = max(rounds("a"))
        until(lambda: "the coordinator refused client" in workers["b"].err, "it is told", 20)
        until(lambda: max(rounds("b")) > woken_in, "it takes part again", 20)
        coordinator.interrupt()
        assert coordinator.wait(20) == 130
    missed = {
        round_ for kind, round_ in _ledger(tmp_path, "SELECT kind, round FROM client_failure") if kind == "missing"
    }
    seconds = dict(_ledger(tmp_path, "SELECT round, seconds FROM round WHERE seconds IS NOT NULL"))
    # Not before its deadline; and not as late as it woke, or nothing would be missing.
    assert all(float(str(seconds[round_])) >= deadline_s for round_ in missed & seconds.keys())
    refusals = [line for line in workers["b"].err.splitlines() if "the coordinator refused client" in line]
    assert all(
        re.search(r"s update for round \d+: the round was closed with [23] updates after 1\.5 s", line)
        for line in refusals
    )


# ---------------------------------------------------------------- clients that fail


def test_a_client_that_fails_is_named_with_its_words_and_the_others_go_on(tmp_path: Path) -> None:
    env = {"NOOP_FAILURE": "3:the cat sat on the GPU"}
    federation = {"devices": 2, "clients": 4, "clients_per_round": 4, "quorum": 3, "rounds": 2}
    with _federation(tmp_path, env, **federation) as (coordinator, _, _):
        assert coordinator.wait(30) == 3, coordinator.err
    hosts = dict(_ledger(tmp_path, "SELECT client, device FROM host"))
    assert _failures(tmp_path) == [("failed", 3, hosts[3], "the cat sat on the GPU")] * 2
    assert _final(tmp_path) == averaged(2, range(3))


def test_over_selection_makes_up_for_a_client_that_fails(tmp_path: Path) -> None:
    env = {"NOOP_FAILURE": "3:the cat sat on the GPU"}
    federation = {"devices": 2, "clients": 4, "clients_per_round": 3, "over_select": 1, "rounds": 2}
    with _federation(tmp_path, env, **federation) as (coordinator, _, _):
        assert coordinator.wait(30) == 3, coordinator.err
    # Closed as soon as the three were there, whether or not the fourth had failed by then.
    assert _ledger(tmp_path, "SELECT round, count(*) FROM contribution GROUP BY round") == [(1, 3), (2, 3)]
    assert _ledger(tmp_path, "SELECT max(attempt) FROM attempt") == [(1,)]
    assert _final(tmp_path) == averaged(2, range(3))


def test_below_its_quorum_a_round_pauses_says_what_it_waits_for_and_goes_on_when_that_comes(tmp_path: Path) -> None:
    federation = {"devices": 2, "clients": 2, "clients_per_round": 2, "attempts": 1, "deadline_s": 2, "rounds": 2}
    with _federation(tmp_path, {}, ["b"], **federation) as (coordinator, address, _):
        slow = _worker(tmp_path, address, "a", {"NOOP_TRAIN_S": "0.8"})
        with ended(slow):
            until(lambda: list((tmp_path / "out" / "spool").glob("round-00002-*")), "the second round")
            slow.popen.kill()
        experiment_id = json.loads((tmp_path / "out" / "experiment.json").read_text())["experiment_id"]
        with grpc.insecure_channel(address) as channel:
            for snapshot in OperatorServiceStub(channel).Watch(
                pb.WatchRequest(experiment_id=experiment_id), timeout=20
            ):
                if snapshot.run.stage in ("paused", "finished"):
                    break
        assert snapshot.run.note == "round 2 has 1 of the 2 updates it needs after 1 attempts; waiting for a"
        assert coordinator.popen.poll() is None
        with ended(_worker(tmp_path, address, "a")):
            assert coordinator.wait(30) == 3, coordinator.err
    assert _final(tmp_path) == averaged(2, range(2))


def test_what_goes_wrong_for_everybody_ends_the_run_with_its_reason_and_the_workers_stay(tmp_path: Path) -> None:
    env = {"NOOP_FAILURE": "the cat sat on the GPU"}
    with _federation(tmp_path, env, devices=2, clients=4, clients_per_round=4, rounds=1) as (coordinator, _, workers):
        assert coordinator.wait(30) == 1, coordinator.err
        assert all(worker.popen.poll() is None for worker in workers.values())
        until(lambda: all("released run" in worker.err for worker in workers.values()), "the workers are free")
    words = "round 1: every client fails in the same way: client 0 on "
    assert coordinator.err.count(words) == 1
    (line,) = [line for line in coordinator.err.splitlines() if line.startswith("federa-coordinator: ")]
    assert words in line and "the cat sat on the GPU; mend that and start again with the same --out" in line
    (run,) = result_of(tmp_path / "out")["runs"]
    assert (run["state"], run["rounds"]) == ("failed", 0) and words in run["failure"]
    assert sorted(row[1] for row in _failures(tmp_path)) == [0, 1, 2, 3]
    assert words in (tmp_path / "out" / "report.html").read_text()


# ---------------------------------------------------------------- memory


def _anonymous_bytes(process: Process) -> int:
    """What it holds now. Pages of the spool that an aggregation has mapped are the page cache's."""
    lines = Path(f"/proc/{process.popen.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.slow
def test_the_coordinator_s_memory_does_not_grow_with_the_number_of_clients_nor_with_that_of_rounds(
    tmp_path: Path,
) -> None:
    held: dict[int, list[int]] = {2: [], 50: []}
    # As many uploads in either: how much of them is under way at the worst moment is chance, more so on a busy machine.
    for clients, rounds in ((2, 50), (50, 2)):
        folder = tmp_path / str(clients)
        folder.mkdir()
        env = {"NOOP_TENSORS": "20", "NOOP_TENSOR_VALUES": "250000"}  # 20 MB a state
        # glibc gives back at once what is freed: the peak is what is held. Left alone it keeps 10 to 50 MB of freed
        # buffers, more or less by chance, and a round is a third faster for it.
        env["MALLOC_TRIM_THRESHOLD_"] = "131072"
        federation = {"devices": 2, "clients": clients, "clients_per_round": clients, "rounds": rounds}
        with _federation(folder, env, **federation) as (coordinator, _, _):
            while coordinator.popen.poll() is None:
                try:
                    held[clients].append(_anonymous_bytes(coordinator))
                except (OSError, StopIteration):
                    break
                time.sleep(0.005)
            assert coordinator.wait(60) == 3, coordinator.err
    peaks = {clients: max(samples) / MEGABYTE for clients, samples in held.items()}
    assert peaks[50] < peaks[2] + 32, peaks
    quarter = len(held[2]) // 4
    earlier, later = (statistics.median(held[2][i * quarter : (i + 1) * quarter]) / MEGABYTE for i in (1, 3))
    assert later < earlier + 16, (earlier, later)
