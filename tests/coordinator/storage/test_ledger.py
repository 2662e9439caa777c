"""The ledger: the first durable update wins, whatever happens at once, and what was written comes back."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import time
from array import array
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.report.result import run_result
from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_types import LedgerFailure, Readings
from coordinator.storage.recovery import recover
from coordinator.storage.run_folder import LEDGER, RunFolder
from coordinator.storage.schema import SCHEMA_VERSION
from federa.config import Experiment
from federa.energy import Energy
from federa.errors import BadInput
from federa.phases import Activity
from federa.tasks.composition import CutRecords


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    ledger = Ledger(path)
    yield ledger
    ledger.close()


def accept(ledger, round_=1, client=0, *, sha256="a" * 64, device="ada", wire_bytes=110, **changes):
    usual = {"examples": 3, "loss": 0.5, "step_ms": (1.0,), "distance": 0.25, "after_s": 1.5, "state_bytes": 100}
    return ledger.accepted(
        round_=round_, client=client, device=device, sha256=sha256, wire_bytes=wire_bytes, **usual | changes
    )


def train(ledger, seconds, round_=1, *, sequence=1, device="ada", client=0, phase="train", **measured):
    """A batch of telemetry about one activity."""
    activity = Activity(round=round_, client=client, phase=phase)
    ledger.measured(device, "e1", sequence, {activity: Energy(seconds=seconds, **measured)}, {})


def moved(ledger):
    return ledger.bytes_down, ledger.bytes_up


def rows(path, table):
    """What another process finds on the disk."""
    with sqlite3.connect(path) as other:
        return other.execute(f"SELECT * FROM {table}").fetchall()


# ---- updates


def test_the_first_update_of_a_round_and_client_wins(ledger):
    assert not ledger.has_accepted(1, 0)
    assert accept(ledger) is True
    assert accept(ledger, sha256="b" * 64, examples=99, device="eve") is False
    (row,) = ledger.contributions(1)
    assert (row["sha256"], row["examples"], row["device"]) == ("a" * 64, 3, "ada")
    assert ledger.has_accepted(1, 0) and not ledger.has_accepted(1, 1) and not ledger.has_accepted(2, 0)
    # The second's bytes went over the wire all the same.
    assert moved(ledger) == (0, 220)


def test_the_same_digest_again_is_not_a_second_update(ledger):
    assert accept(ledger) is True
    assert accept(ledger) is False
    assert len(ledger.contributions(1)) == 1


def test_the_same_client_in_another_round_is_another_update(ledger):
    assert accept(ledger, 1, 0) and accept(ledger, 2, 0) and accept(ledger, 1, 1)


def test_the_schema_itself_refuses_a_second_update(ledger, path):
    accept(ledger)
    with sqlite3.connect(path) as other, pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        other.execute("INSERT INTO contribution VALUES (1, 0, 'eve', 1, 0.0, 'c', x'', 0.0, 0.0, 0)")


def test_of_many_at_once_exactly_one_wins(ledger):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda index: accept(ledger, sha256=f"{index:064}", device=f"d{index}"), range(40)))
    assert won.count(True) == 1
    (row,) = ledger.contributions(1)
    assert row["sha256"] == f"{won.index(True):064}"
    assert moved(ledger) == (0, 40 * 110)


def test_threads_may_write_and_read_at_the_same_time(ledger):
    def work(index):
        ledger.selected(index, 1, [0], "b")
        accept(ledger, index, 0, device=f"d{index % 3}")
        ledger.downloaded(round_=index, device="ada", wire_bytes=7, state_bytes=5)
        train(ledger, 0.5, index)
        ledger.aggregated(index, 1.0, "s")
        ledger.note(**{f"key{index}": index})
        ledger.rounds(), ledger.facts(), ledger.step_ms()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1, 41)))
    ledger.flush()
    assert [row["round"] for row in ledger.rounds()] == list(range(1, 41))
    assert moved(ledger) == (40 * 7, 40 * 110)
    assert [(row["round"], row["seconds"]) for row in ledger.phases()] == [(index, 0.5) for index in range(1, 41)]
    assert len(ledger.facts()) == 40


# ---- every table comes back


def test_contributions_come_by_client_whenever_they_came(ledger):
    for client in (5, 0, 11, 2):
        accept(ledger, 1, client, after_s=client + 0.5, examples=client + 1)
    accept(ledger, 2, 1, loss=0.125, distance=2.0, step_ms=[3.0, 1.5], micro_batch=4)
    assert [row["client"] for row in ledger.contributions(1)] == [0, 2, 5, 11]
    assert ledger.contributions(2) == [
        {
            "round": 2, "client": 1, "device": "ada", "examples": 3, "loss": 0.125, "sha256": "a" * 64,
            "step_ms": array("f", [3.0, 1.5]).tobytes(), "distance": 2.0, "after_s": 1.5,
            "micro_batch": 4,
        }
    ]  # fmt: skip
    # Paces come as they came, since what is measured last counts.
    assert [(row["client"], row["examples"], row["after_s"]) for row in ledger.paces()] == [
        (5, 6, 5.5), (0, 1, 0.5), (11, 12, 11.5), (2, 3, 2.5), (1, 3, 1.5),
    ]  # fmt: skip


def test_distances_are_those_of_earlier_rounds(ledger):
    for round_, distance in ((1, 1.0), (1, 2.0), (2, 4.0), (3, 8.0)):
        accept(ledger, round_, int(distance), distance=distance)
    assert sorted(ledger.distances(before=3)) == [1.0, 2.0, 4.0]
    assert ledger.distances(before=1) == []


def test_rounds_are_those_that_were_aggregated_with_their_own_bytes(ledger):
    for round_ in (1, 2, 3):
        ledger.selected(round_, 1, [0, 1], f"broadcast {round_}")
    for round_ in (1, 2):
        ledger.downloaded(round_=round_, device="ada", wire_bytes=10 * round_, state_bytes=1)
        ledger.downloaded(round_=round_, device="bob", wire_bytes=10 * round_, state_bytes=1)
        accept(ledger, round_, 0, wire_bytes=round_)
        ledger.aggregated(round_, 0.25 * round_, f"state {round_}", f"server {round_}" if round_ == 2 else None)
    ledger.evaluated(1, 0.75, 40, {"correct": 30.0, "examples": 40.0})
    accept(ledger, 3, 0, wire_bytes=1000)  # the unfinished round's
    assert ledger.rounds() == [
        {
            "round": 1,
            "seconds": 0.25,
            "state_sha256": "state 1",
            "server_sha256": None,
            "value": 0.75,
            "value_examples": 40,
            "bytes_down": 20,
            "bytes_up": 1,
        },
        {
            "round": 2,
            "seconds": 0.5,
            "state_sha256": "state 2",
            "server_sha256": "server 2",
            "value": None,
            "value_examples": None,
            "bytes_down": 40,
            "bytes_up": 2,
        },
    ]
    assert ledger.round_counters() == {1: {"correct": 30.0, "examples": 40.0}}
    assert moved(ledger) == (60, 1003)
    unfinished = dict.fromkeys(
        ("seconds", "state_sha256", "server_sha256", "value", "value_examples", "value_counters")
    )
    assert ledger.last_round() == {"round": 3, "broadcast_sha256": "broadcast 3", "spent_s": 0.0, **unfinished}


def test_the_attempts_of_a_round_share_its_broadcast(ledger):
    assert ledger.last_round() is None and ledger.attempts(1) == {}
    ledger.selected(1, 1, (4, 7), "b")
    ledger.selected(1, 2, (5,), "b")
    ledger.selected(2, 1, (), "c")
    assert (ledger.attempts(1), ledger.attempts(2)) == ({1: [4, 7], 2: [5]}, {1: []})
    with pytest.raises(LedgerFailure):
        ledger.selected(1, 2, (6,), "b")
    assert ledger.attempts(1)[2] == [5]


def test_only_an_open_round_gets_older(ledger):
    ledger.selected(1, 1, [0], "b")
    ledger.alive(1, 2.5, 1000.25)
    assert (ledger.last_round()["spent_s"], ledger.facts()) == (2.5, {"alive_at": 1000.25})
    ledger.aggregated(1, 3.0, "s")
    ledger.alive(1, 9.0, 1002.0)
    ledger.alive(0, 0.0, 1004.0)
    assert (ledger.last_round()["spent_s"], ledger.facts()) == (2.5, {"alive_at": 1004.0})


def test_facts_are_replaced_by_later_ones(ledger):
    ledger.note(state="running", sizes=[1, 2], nothing=None, words="é\u2028")
    ledger.note(state="finished")
    assert ledger.facts() == {"state": "finished", "sizes": [1, 2], "nothing": None, "words": "é\u2028"}


def test_who_hosts_whom_is_said_once_and_what_devices_are_each_time(ledger):
    ledger.hosted({"bob": "k2", "ada": "k1"}, {2: "bob", 0: "ada", 1: "ada"})
    ledger.hosted({"ada": "stolen", "cyd": "k3"}, {0: "cyd", 3: "cyd"})
    assert ledger.keys() == {"ada": "k1", "bob": "k2", "cyd": "k3"}
    ledger.prepared("ada", {"device": "old"}, {0: 10, 1: 20})
    ledger.prepared("ada", {"device": "GPU"}, {0: 11, 1: 20, 2: 99})
    ledger.prepared("ada", {"device": "GPU"}, {}, {0: CutRecords(14, 3), 2: CutRecords(9, 9)})
    ledger.prepared("eve", {"device": "?"}, {3: 99}, {3: CutRecords(99, 1)})
    ledger.flush()
    assert list(ledger.devices().items()) == [("ada", {"device": "GPU"}), ("bob", {}), ("cyd", {})]
    assert [tuple(row.values()) for row in ledger.clients()] == [
        (0, "ada", 11, 14, 3), (1, "ada", 20, None, None), (2, "bob", None, None, None), (3, "cyd", None, None, None),
    ]  # fmt: skip


def test_client_failures_are_kept_with_their_words_in_the_order_they_came(ledger):
    failures = [("refused", 1, "not finite: é"), ("late", 1, ""), ("missing", 2, "closed"), ("failed", 1, "no memory")]
    for kind, round_, reason in failures:
        ledger.record_failure(kind, round_=round_, attempt=2, client=7, device="ada", reason=reason)
    assert ledger.client_failures() == [
        {"round": round_, "attempt": 2, "client": 7, "device": "ada", "kind": kind, "reason": reason}
        for kind, round_, reason in failures
    ]
    with pytest.raises(LedgerFailure):
        ledger.record_failure("lost", round_=1, attempt=1, client=1, device="ada", reason="")


def test_steps_are_kept_by_device_and_round(ledger):
    accept(ledger, 1, 0, step_ms=[3.0, 1.5])
    accept(ledger, 2, 0, step_ms=[2.0])
    accept(ledger, 1, 1, device="bob", step_ms=[])
    steps = {key: sorted(times) for key, times in ledger.step_ms().items()}
    assert steps == {("ada", 1): [1.5, 3.0], ("ada", 2): [2.0], ("bob", 1): []}
    assert ledger.updates() == {"ada": 2, "bob": 1}


def test_pieces_of_a_phase_are_added_up_and_what_was_not_measured_takes_nothing_away(ledger):
    def one():
        ledger.flush()
        (row,) = ledger.phases()
        return {key: row[key] for key in ("seconds", "joules", "covered_s", "largest_gap_s", "peak_mw")}

    train(ledger, 0.5)
    assert one() == {"seconds": 0.5, "joules": None, "covered_s": 0.0, "largest_gap_s": 0.0, "peak_mw": None}
    train(ledger, 1.0, joules=4.0, covered_s=0.75, largest_gap_s=0.25, peak_w=9.0)
    assert one() == {"seconds": 1.5, "joules": 4.0, "covered_s": 0.75, "largest_gap_s": 0.25, "peak_mw": 9000.0}
    train(ledger, 1.0, joules=0.5, covered_s=1.0, largest_gap_s=0.125, peak_w=7.0)
    train(ledger, 0.25, largest_gap_s=0.5)
    assert one() == {"seconds": 2.75, "joules": 4.5, "covered_s": 1.75, "largest_gap_s": 0.5, "peak_mw": 9000.0}


def test_phases_are_one_row_a_round_device_client_and_phase_and_are_read_by_device(ledger, path):
    for device, round_, client, phase in (("bob", 1, 2, "train"), ("ada", 1, 1, "train"), ("ada", 1, 0, "train")) * 2:
        train(ledger, 1.0, round_, device=device, client=client, phase=phase)
    train(ledger, 2.0, 0, phase="idle", joules=6.0, covered_s=2.0)
    ledger.flush()
    assert len(rows(path, "phase")) == 4
    assert [(row["device"], row["round"], row["phase"], row["seconds"]) for row in ledger.phases()] == [
        ("ada", 0, "idle", 2.0), ("ada", 1, "train", 4.0), ("bob", 1, "train", 2.0),
    ]  # fmt: skip


def test_sensors_are_added_up(ledger):
    for count, total, high in ((2, 60.0, 40.0), (1, 55.5, 55.5), (3, -3.0, 2.0)):
        ledger.measured("ada", "e1", count, {}, {"temp cpu": Readings(count=count, sum=total, high=high)})
    ledger.measured("bob", "e1", 1, {}, {"gpu_load": Readings(count=1, sum=99.0, high=99.0)})
    ledger.flush()
    assert ledger.sensors() == {
        "ada": {"temp cpu": Readings(count=6, sum=112.5, high=55.5)},
        "bob": {"gpu_load": Readings(count=1, sum=99.0, high=99.0)},
    }


def test_what_a_device_measures_with_is_kept_beside_what_it_is(ledger):
    ledger.hosted({"ada": "k"}, {0: "ada"})
    assert ledger.powers() == {"ada": {}}
    ledger.powered("ada", {"source": "sysfs", "idle_w": 4.5})
    ledger.prepared("ada", {"device": "CPU"}, {})
    ledger.flush()
    assert (ledger.powers(), ledger.devices()) == (
        {"ada": {"source": "sysfs", "idle_w": 4.5}},
        {"ada": {"device": "CPU"}},
    )


def test_a_batch_and_its_number_are_recorded_together_or_not_at_all(ledger, path):
    train(ledger, 1.0, sequence=3)
    with pytest.raises(LedgerFailure, match="NOT NULL"):
        accept(ledger, state_bytes=None)
    assert rows(path, "phase") == rows(path, "telemetry") == []
    ledger.flush()
    assert len(rows(path, "phase")) == 1 and ledger.sequences() == {"ada": {"e1": 3}}
    train(ledger, 1.0, sequence=4)
    ledger.measured("ada", "f" * 16, 1, {}, {})
    ledger.close()
    ledger = Ledger(path)
    assert ledger.sequences() == {"ada": {"e1": 4, "f" * 16: 1}}
    ledger.close()


def test_a_killed_process_leaves_no_batch_in_pieces(path):
    # A thread writes all the time, while batches of many pieces are added: each is in one transaction.
    code, words = in_a_process(
        path,
        "import threading; from federa.energy import Energy; from federa.phases import Activity\n"
        "energies = {Activity(round=r, client=0, phase='train'): Energy(seconds=1.0) for r in range(50)}\n"
        "def write():\n  while True: ledger.note(a=1)\n"
        "threading.Thread(target=write, daemon=True).start()\n"
        "import time; end = time.monotonic() + 0.5; n = 0\n"
        "while time.monotonic() < end: n += 1; ledger.measured('ada', 'e', n, energies, {}); time.sleep(0.0005)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    assert code == -9, words
    ledger = Ledger(path)
    last = ledger.sequences()["ada"]["e"]
    assert last > 1 and {row["seconds"] for row in ledger.phases()} == {float(last)}
    ledger.close()


def test_bytes_are_counted_at_once_and_again_by_who_opens_the_ledger(ledger, path):
    ledger.downloaded(round_=1, device="ada", wire_bytes=5, state_bytes=4)
    ledger.uploaded_in_vain(round_=1, device="ada", client=0, wire_bytes=30)
    accept(ledger, wire_bytes=100)
    assert moved(ledger) == (5, 130)
    ledger.close()
    again = Ledger(path)
    assert moved(again) == (5, 130)
    accept(again, wire_bytes=1)
    assert moved(again) == (5, 131)
    again.close()


# ---- writing that waits


def later(ledger):
    ledger.hosted({"ada": "k"}, {0: "ada"})
    ledger.prepared("ada", {"device": "CPU"}, {0: 4})
    ledger.downloaded(round_=1, device="ada", wire_bytes=5, state_bytes=4)
    ledger.uploaded_in_vain(round_=1, device="ada", client=0, wire_bytes=3)
    train(ledger, 1.0)


def on_disk(path):
    return [len(rows(path, "transfer")), len(rows(path, "phase")), rows(path, "host"), rows(path, "device")]


NOT_YET = [0, 0, [(0, "ada", None, None, None)], [("ada", "k", "{}", "{}")]]
THERE = [2, 1, [(0, "ada", 4, None, None)], [("ada", "k", '{"device": "CPU"}', "{}")]]


@pytest.mark.parametrize(
    "write", [lambda ledger: ledger.flush(), lambda ledger: ledger.note(a=1), lambda ledger: ledger.close()]
)
def test_what_may_wait_is_there_after_the_next_transaction(ledger, path, write):
    later(ledger)
    assert on_disk(path) == NOT_YET
    write(ledger)
    assert on_disk(path) == THERE


def test_what_waited_is_in_one_transaction_with_what_follows(ledger, path):
    ledger.selected(1, 1, [0], "b")
    later(ledger)
    with pytest.raises(LedgerFailure, match="UNIQUE"):
        ledger.selected(1, 1, [0], "b")
    assert on_disk(path) == NOT_YET, "the transaction that failed took nothing along"
    ledger.flush()
    assert on_disk(path) == THERE


def test_what_waits_is_not_lost_when_the_transaction_that_takes_it_along_rolls_back(ledger, path):
    later(ledger)
    ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    ledger.measured("ada", "e2", 1, {}, {f"temp {n}": Readings(count=1, sum=1.0, high=1.0) for n in range(10_000)})
    with pytest.raises(LedgerFailure, match="full"):
        ledger.note(a=1)
    assert on_disk(path) == NOT_YET
    ledger._db.execute("PRAGMA max_page_count = 100000")
    ledger.flush()
    assert on_disk(path) == THERE
    assert len(ledger.sensors()["ada"]) == 10_000
    ledger.flush()
    assert on_disk(path) == THERE, "written once"


def test_bytes_are_counted_where_they_are_recorded_and_not_where_that_failed(ledger, path):
    with pytest.raises(LedgerFailure, match="NOT NULL"):
        accept(ledger, state_bytes=None, wire_bytes=110)
    assert moved(ledger) == (0, 0)
    accept(ledger, wire_bytes=110)
    assert moved(ledger) == (0, 110)


class SlowlyAdded(int):
    """Bytes that another thread can overtake while they are added to a total."""

    def __radd__(self, total):
        time.sleep(0.002)
        return total + int(self)


def test_threads_that_move_bytes_at_once_lose_none(ledger, path):
    with ThreadPoolExecutor(8) as pool:
        for index in range(20):
            pool.submit(ledger.downloaded, round_=1, device="ada", wire_bytes=SlowlyAdded(1), state_bytes=0)
            pool.submit(accept, ledger, 1, index, wire_bytes=SlowlyAdded(10))
    ledger.flush()
    assert moved(ledger) == (20, 200)
    assert sum(row[4] for row in rows(path, "transfer")) == 220


def test_a_failed_write_leaves_nothing_and_blocks_nothing(ledger):
    ledger.selected(1, 1, [0], "b")
    with pytest.raises(LedgerFailure):
        ledger.selected(1, 1, [1], "b")
    ledger.selected(2, 1, [0], "b")
    with pytest.raises(TypeError):
        ledger.note(good=1, bad=object())
    assert ledger.facts() == {}


def test_an_update_and_its_transfer_are_recorded_together_or_not_at_all(ledger, path):
    later(ledger)
    with pytest.raises(LedgerFailure, match="NOT NULL"):
        accept(ledger, state_bytes=None)
    assert rows(path, "contribution") == []
    assert on_disk(path) == NOT_YET


# ---- what outlives what


def in_a_process(path, code):
    """Exit code and errors of a process that does this with the ledger."""
    start = "import os, signal, sys; from pathlib import Path\nfrom coordinator.storage.ledger import Ledger\n"
    start += "ledger = Ledger(Path(sys.argv[1]))\n"
    done = subprocess.run([sys.executable, "-c", start + code, str(path)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


ACCEPT = (
    "ledger.accepted(round_=1, client=2, device='d', examples=1, loss=0.0, sha256='s', step_ms=[1.0], distance=1.0,"
    " after_s=1.0, wire_bytes=5, state_bytes=4)\n"
)


def test_what_is_recorded_outlives_a_killed_process(path):
    # os._exit: nothing is closed, flushed or rolled back. What the method returned for must be there.
    code, _ = in_a_process(path, "ledger.note(state='running')\n" + ACCEPT + "os._exit(9)")
    assert code == 9
    ledger = Ledger(path)
    assert ledger.facts() == {"state": "running"}
    assert [row["client"] for row in ledger.contributions(1)] == [2]
    assert accept(ledger, 1, 2) is False
    ledger.close()


def test_every_transaction_is_synchronous_and_the_schema_has_a_version(ledger):
    pragmas = {name: ledger._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")}
    assert pragmas == {"synchronous": 2, "journal_mode": "wal"}  # FULL
    assert ledger._db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_kill_between_the_file_and_its_schema_leaves_a_ledger_that_can_be_begun(path):
    path.touch()
    ledger = Ledger(path)
    assert accept(ledger)
    ledger.close()
    # The same where the journal's mode is in the file already.
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA journal_mode = WAL")
    ledger = Ledger(path)
    assert accept(ledger)
    ledger.close()


@pytest.mark.parametrize("version", [1, 3, SCHEMA_VERSION + 1, -1, 0])
def test_a_ledger_of_another_schema_is_refused_with_the_way_out(path, version):
    Ledger(path).close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(BadInput) as caught:
        Ledger(path)
    words = str(caught.value)
    assert words == (
        f"{path} has ledger schema {version}, this federa reads {SCHEMA_VERSION}: go on with the federa that began "
        "the run, or name another --out"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"not a database at all, and longer than its header" * 9, b"\0" * 4096, b"x", b"\0", b"SQLite format 3\0"],
)
def test_a_file_that_is_no_ledger_is_refused_in_one_line(path, content):
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"cannot be used as a ledger: .*; name another --out") as caught:
        Ledger(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.mkdir(), "it is a folder, and must be a file"),
        (os.mkfifo, "it is a pipe, and must be a file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device, and must be a file"),
        (lambda path: path.parent.rmdir(), "unable to open"),
    ],
)
def test_a_ledger_that_cannot_be_opened_is_refused_in_one_line(tmp_path, make, why):
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "ledger.sqlite"
    make(path)
    with pytest.raises(BadInput, match=f"cannot be used as a ledger: {why}") as caught:
        Ledger(path)
    assert "\n" not in str(caught.value)


# ---- a disk that takes no more


def failed_in_one_line(caught, path):
    words = str(caught.value)
    return words.startswith(f"the ledger {path} cannot be written: ") and "\n" not in words


def test_a_full_database_says_so_and_keeps_what_it_had(ledger, path):
    assert accept(ledger)
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerFailure) as caught:
        accept(ledger, 1, 1, step_ms=[1.0] * 10_000)
    assert failed_in_one_line(caught, path) and "full" in str(caught.value)
    assert not ledger.has_accepted(1, 1)
    # With room again it goes on.
    ledger._db.execute("PRAGMA max_page_count = 100000")
    assert accept(ledger, 1, 1, step_ms=[1.0] * 10_000)
    assert [row["client"] for row in ledger.contributions(1)] == [0, 1]


def test_a_full_disk_ends_a_process_with_one_line_and_loses_nothing(path):
    # The limit on a file's size stands for a full disk: the write itself fails.
    code, words = in_a_process(
        path,
        ACCEPT + "import resource; from coordinator.storage.ledger_types import LedgerFailure\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n  for key in range(10_000): ledger.note(**{f'k{key}': 'x' * 500}); done = key\n"
        "except LedgerFailure as error: print(done, error, file=sys.stderr); os._exit(3)\n",
    )
    done, _, message = words.partition(" ")
    assert (code, message.count("\n")) == (3, 1)
    assert message.startswith(f"the ledger {path} cannot be written: ")
    ledger = Ledger(path)
    assert len(ledger.facts()) == int(done) + 1 > 1
    assert ledger.has_accepted(1, 2)
    ledger.close()


def test_a_database_that_turned_read_only_says_so(ledger, path):
    ledger._db.execute("PRAGMA query_only = ON")
    with pytest.raises(LedgerFailure, match="readonly") as caught:
        ledger.note(a=1)
    assert failed_in_one_line(caught, path)


def test_a_ledger_that_was_closed_fails_as_one_that_cannot_be_written(path):
    ledger = Ledger(path)
    ledger.close()
    ledger.close()
    for use in (lambda: ledger.note(a=1), ledger.facts):
        with pytest.raises(LedgerFailure):
            use()


# ---- a damaged file


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The file of a ledger with something in every table."""
    path = tmp_path_factory.mktemp("whole") / LEDGER
    ledger = Ledger(path)
    ledger.note(
        run_id="r", config=Experiment().model_dump(mode="json"), environment={}, start_sha256="a" * 64, state="running"
    )
    later(ledger)
    for round_ in range(1, 4):
        ledger.selected(round_, 1, [0, 1], "b" * 64)
        for client in (0, 1):
            accept(ledger, round_, client, step_ms=[float(step) for step in range(20)])
        ledger.record_failure("refused", round_=round_, attempt=1, client=1, device="ada", reason="é" * 20)
        ledger.aggregated(round_, 1.0, "c" * 64)
        ledger.evaluated(round_, 0.5)
    ledger.close()
    return path


READERS = [
    Ledger.facts, Ledger.devices, Ledger.keys, Ledger.clients, Ledger.rounds, Ledger.last_round, Ledger.paces,
    Ledger.client_failures, Ledger.phases, Ledger.powers, Ledger.sensors, Ledger.sequences, Ledger.updates,
    Ledger.step_ms, Ledger.curve,
    run_result,
    lambda ledger: ledger.attempts(1),
    lambda ledger: ledger.counters(1, "test"),
    lambda ledger: ledger.contributions(1),
    lambda ledger: ledger.distances(before=3),
    lambda ledger: ledger.has_accepted(1, 0),
    lambda ledger: recover(ledger, RunFolder(ledger.path.parent)),
    lambda ledger: ledger.note(state="stopped"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "column", "read"),
    [
        ("run", "value", Ledger.facts),
        ("device", "facts", Ledger.devices),
        ("device", "power", Ledger.powers),
        ("attempt", "clients", lambda ledger: ledger.attempts(1)),
        ("contribution", "step_ms", Ledger.step_ms),
    ],
)
@pytest.mark.parametrize("value", ["x'7bff'", "''", "5"])
def test_content_that_cannot_be_read_back_is_named_as_damage(ledger, path, table, column, value, read):
    # SQLite does not see a bit that flips inside a value.
    later(ledger)
    ledger.note(state="running")
    ledger.selected(1, 1, [0], "b")
    accept(ledger)
    with sqlite3.connect(path) as other:
        other.execute(f"UPDATE {table} SET {column} = {value}")
    try:
        read(ledger)
    except LedgerFailure as error:
        assert str(error).startswith(f"the ledger {path} ") and "\n" not in str(error)


@settings(max_examples=200)
@given(seed=st.integers(0, 2**32), hits=st.integers(1, 12), cut=st.integers(0, 20))
def test_a_damaged_ledger_is_refused_or_fails_in_one_line_and_in_no_other_way(tmp_path_factory, whole, seed, hits, cut):
    random_ = random.Random(seed)
    data = bytearray(whole.read_bytes())
    used = [place for place, byte in enumerate(data) if byte]  # most of a page is empty
    for _ in range(hits):
        data[random_.choice(used)] = random_.choice((0, 255, random_.randrange(256)))
    if cut == 0:
        del data[random_.randrange(len(data)) :]
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    for left in folder.glob(f"{LEDGER}*"):
        left.unlink(missing_ok=True)
    (folder / LEDGER).write_bytes(data)
    try:
        ledger = Ledger(folder / LEDGER)
    except BadInput as error:
        assert "\n" not in str(error)
        return
    except LedgerFailure as error:
        assert "\n" not in str(error)
        return
    for read in READERS:
        try:
            read(ledger)
        except LedgerFailure as error:
            assert "\n" not in str(error)
    with contextlib.suppress(LedgerFailure):
        ledger.close()


def test_a_ledger_may_be_read_by_others_while_it_is_written(ledger, path):
    accept(ledger)
    assert os.path.exists(f"{path}-wal")
    assert len(rows(path, "contribution")) == 1
    assert accept(ledger, 1, 1)
