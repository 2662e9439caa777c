"""Real links in network namespaces: a slow one that is full, and one that is cut in the middle of an upload."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import namespaces
import pytest
import yaml
from processes import NOOP, Process, ended, listening, result_of, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not namespaces.available(), reason="network namespaces need root, ip and tc"),
]

CUT_S = 60.0
STATE_VALUES = 22_750_000  # 91 MB


@dataclass(frozen=True)
class Outcome:
    """What was seen: of the slow host its log, of the cut one too, and how long it took after its link was back."""

    folder: Path
    slow_log: str
    cut_log: str
    restarted: bool
    after_mending_s: float


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """One federation of two hosts, a client each: one sends at 20 Mbit/s, the other's link is cut for a minute."""
    folder = tmp_path_factory.mktemp("links")
    experiment = folder / "experiment.yaml"
    federation = {"devices": 2, "clients": 2, "clients_per_round": 2, "rounds": 1}
    experiment.write_text(yaml.safe_dump({"federation": federation, "target": {"value": 1.0}}))
    env = {"NOOP_SCORES": "0", "NOOP_TENSORS": "20", "NOOP_TENSOR_VALUES": str(STATE_VALUES // 20)}
    with namespaces.Hosts({"slow": 20.0, "cut": 50.0}) as hosts:
        out = ["--experiment", str(experiment), "--out", str(folder / "out")]
        address = ["--insecure", "--listen", f"{namespaces.COORDINATOR}:0"]
        coordinator = Process([*NOOP, "coordinator", *out, *address], folder, env)
        with ended(coordinator):
            listens = listening(coordinator)
            workers = {}
            for name in ("slow", "cut"):
                words = [*NOOP, "worker", "--insecure", "--coordinator", listens]
                words += ["--name", name, "--state", str(folder / "keys")]
                workers[name] = Process(words, folder, env, prefix=hosts.prefix(name))
            with ended(*workers.values()):
                spool = folder / "out" / "spool"

                def some_of_it() -> bool:
                    sizes = [path.stat().st_size for path in spool.glob("partial-00001-*")]
                    # Clients are dealt in the order of the names: 0 to cut, 1 to slow.
                    return (
                        any(path.name.startswith("partial-00001-00000") for path in spool.iterdir())
                        and max(sizes) > 20e6
                    )

                until(some_of_it, "the middle of the upload")
                hosts.cut("cut")
                time.sleep(CUT_S)
                assert not (folder / "out" / "result.json").exists()
                hosts.mend("cut")
                mended = time.monotonic()
                assert coordinator.wait() == 3, coordinator.err
                after_s = time.monotonic() - mended
                until(lambda: all("heartbeats" in worker.err for worker in workers.values()), "they are released")
                alive = all(worker.popen.poll() is None for worker in workers.values())
                yield Outcome(folder, workers["slow"].err, workers["cut"].err, not alive, after_s)


LEAVES = """
import time, namespaces
namespaces.Hosts({"a": 20.0}).__enter__()
print("made", flush=True)
time.sleep(600)
"""


def test_what_a_killed_test_left_behind_is_removed(tmp_path: Path) -> None:
    killed = Process(["-c", LEAVES], tmp_path)
    until(lambda: "made" in killed.out, "its hosts are there")
    pid = killed.popen.pid
    left = subprocess.Popen(["ip", "netns", "exec", f"federa-{pid}-a", "sleep", "600"])
    killed.popen.kill()
    killed.popen.wait()
    with namespaces.Hosts({"a": 20.0}):  # the bridge of the other had this one's address
        assert left.wait(10) == -signal.SIGKILL
        for words in (("netns", "list"), ("-o", "link", "show")):
            assert str(pid) not in subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


def test_a_heartbeat_is_answered_within_a_second_while_91_mb_go_up_at_20_mbit(outcome: Outcome) -> None:
    found = re.search(r"(\d+) heartbeats, answered after at most ([\d.]+) ms", outcome.slow_log)
    assert found, outcome.slow_log
    assert int(found[1]) >= 6, "36 s of upload at 5 s a heartbeat"
    assert float(found[2]) < 1000
    # It really was that slow a link.
    ledger = sqlite3.connect(outcome.folder / "out" / "ledger.sqlite")
    ((seconds,),) = ledger.execute("SELECT seconds FROM phase WHERE device = 'slow' AND phase = 'upload'")
    assert seconds > 91e6 * 8 / 20e6 * 0.9


def test_a_link_cut_for_a_minute_in_an_upload_costs_no_restart_and_no_second_upload(outcome: Outcome) -> None:
    (run,) = result_of(outcome.folder / "out")["runs"]
    assert run["state"] == "finished" and run["rounds"] == 1
    assert not outcome.restarted
    assert outcome.after_mending_s < 45, "the rest of the upload takes 12 s"
    ledger = sqlite3.connect(outcome.folder / "out" / "ledger.sqlite")
    ((wire_bytes,),) = ledger.execute("SELECT sum(wire_bytes) FROM transfer WHERE device = 'cut' AND direction = 'up'")
    assert wire_bytes < 1.1 * run["state_bytes"], "it went on where it broke off"
