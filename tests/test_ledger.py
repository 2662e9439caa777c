"""The ledger: the first durable update wins, whatever happens at once, and sums come out as what went in."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from coordinator.ledger import SCHEMA_VERSION, Ledger


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


def accept(ledger, round_=1, client=0, *, sha256="a" * 64, device="ada", examples=3, wire_bytes=110, step_ms=(1.0,)):
    return ledger.accepted(
        round_=round_, client=client, device=device, examples=examples, loss=0.5, sha256=sha256, step_ms=step_ms,
        wire_bytes=wire_bytes, state_bytes=100,
    )  # fmt: skip


def test_the_first_update_of_a_round_and_client_wins(ledger):
    assert accept(ledger) is True
    assert accept(ledger, sha256="b" * 64, examples=99, device="eve") is False
    (row,) = ledger.contributions(1)
    assert (row["sha256"], row["examples"], row["device"]) == ("a" * 64, 3, "ada")
    # The second's bytes went over the wire all the same.
    assert ledger.bytes_moved() == (0, 220)


def test_the_same_digest_again_is_not_a_second_update(ledger):
    assert accept(ledger) is True
    assert accept(ledger) is False
    assert len(ledger.contributions(1)) == 1


def test_the_same_client_in_another_round_is_another_update(ledger):
    assert accept(ledger, 1, 0) and accept(ledger, 2, 0) and accept(ledger, 1, 1)


def test_the_schema_itself_refuses_a_second_update(ledger, tmp_path):
    accept(ledger)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other, pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        other.execute("INSERT INTO contribution VALUES (1, 0, 'eve', 1, 0.0, 'c', x'')")


def test_of_many_at_once_exactly_one_wins(ledger):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda index: accept(ledger, sha256=f"{index:064}", device=f"d{index}"), range(40)))
    assert won.count(True) == 1
    (row,) = ledger.contributions(1)
    assert row["sha256"] == f"{won.index(True):064}"
    assert ledger.bytes_moved() == (0, 40 * 110)


def test_threads_may_write_and_read_at_the_same_time(ledger):
    def work(index):
        ledger.announced(index, [0])
        accept(ledger, index, 0, device=f"d{index % 3}")
        ledger.downloaded(round_=index, device="ada", wire_bytes=7, state_bytes=5)
        ledger.phase(round_=index, device="ada", client=0, phase="train", seconds=0.5)
        ledger.folded(index, 1.0, "s")
        ledger.note(**{f"key{index}": index})
        ledger.rounds(), ledger.facts(), ledger.step_ms("d0")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1, 41)))
    assert [row["round"] for row in ledger.rounds()] == list(range(1, 41))
    assert ledger.bytes_moved() == (40 * 7, 40 * 110)
    assert ledger.phase_seconds() == {"ada": {"train": 20.0}}
    assert len(ledger.facts()) == 40


def test_contributions_come_by_client_whenever_they_came(ledger):
    for client in (5, 0, 11, 2):
        accept(ledger, 1, client)
    accept(ledger, 2, 1)
    assert [row["client"] for row in ledger.contributions(1)] == [0, 2, 5, 11]


def test_rounds_are_those_that_were_folded_with_their_own_bytes(ledger):
    for round_ in (2, 1, 3):
        ledger.announced(round_, [0, 1])
    for round_ in (1, 2):
        ledger.downloaded(round_=round_, device="ada", wire_bytes=10 * round_, state_bytes=1)
        ledger.downloaded(round_=round_, device="bob", wire_bytes=10 * round_, state_bytes=1)
        accept(ledger, round_, 0, wire_bytes=round_)
        ledger.folded(round_, 0.25 * round_, f"state {round_}")
    ledger.evaluated(1, 0.75)
    accept(ledger, 3, 0, wire_bytes=1000)  # the unfinished round's
    assert ledger.rounds() == [
        {"round": 1, "seconds": 0.25, "state_sha256": "state 1", "value": 0.75, "bytes_down": 20, "bytes_up": 1},
        {"round": 2, "seconds": 0.5, "state_sha256": "state 2", "value": None, "bytes_down": 40, "bytes_up": 2},
    ]
    assert ledger.bytes_moved() == (60, 1003)


def test_facts_and_devices_are_replaced_by_later_ones(ledger):
    ledger.note(state="running", sizes=[1, 2], nothing=None)
    ledger.note(state="finished")
    assert ledger.facts() == {"state": "finished", "sizes": [1, 2], "nothing": None}
    ledger.device("bob", {"device": "CPU"})
    ledger.device("ada", {"device": "old"})
    ledger.device("ada", {"device": "GPU"})
    assert list(ledger.devices().items()) == [("ada", {"device": "GPU"}), ("bob", {"device": "CPU"})]


def test_steps_and_seconds_are_kept_by_device(ledger):
    accept(ledger, 1, 0, step_ms=[3.0, 1.5])
    accept(ledger, 2, 0, step_ms=[2.0])
    accept(ledger, 1, 1, device="bob", step_ms=[])
    assert ledger.step_ms("ada") == [1.5, 2.0, 3.0]
    assert ledger.step_ms("bob") == ledger.step_ms("nobody") == []
    for seconds in (0.5, 0.25):
        ledger.phase(round_=1, device="ada", client=0, phase="train", seconds=seconds)
    ledger.phase(round_=1, device="ada", client=None, phase="idle", seconds=2.0)
    assert ledger.phase_seconds() == {"ada": {"train": 0.75, "idle": 2.0}}


def test_a_transfer_goes_down_or_up(ledger):
    ledger.downloaded(round_=1, device="ada", wire_bytes=1, state_bytes=1)
    with pytest.raises(sqlite3.IntegrityError):
        ledger._write("INSERT INTO transfer VALUES (1, 'ada', 'sideways', NULL, 1, 1)", [()])
    assert ledger.bytes_moved() == (1, 0)


def test_a_failed_write_leaves_nothing_and_blocks_nothing(ledger):
    ledger.announced(1, [0])
    with pytest.raises(sqlite3.IntegrityError):
        ledger.announced(1, [1])
    ledger.announced(2, [0])
    with pytest.raises(TypeError):
        ledger.note(good=1, bad=object())
    assert ledger.facts() == {}


def test_what_is_recorded_outlives_a_killed_process(tmp_path):
    # os._exit: nothing is closed, flushed or rolled back. What the method returned for must be there.
    path = tmp_path / "ledger.sqlite"
    code = (
        "import os, sys; from pathlib import Path; from coordinator.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1])); ledger.note(state='running')\n"
        "ledger.accepted(round_=1, client=2, device='d', examples=1, loss=0.0, sha256='s', step_ms=[1.0],"
        " wire_bytes=5, state_bytes=4)\n"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], timeout=60).returncode == 9
    ledger = Ledger(path)
    assert ledger.facts() == {"state": "running"}
    assert [row["client"] for row in ledger.contributions(1)] == [2]
    assert accept(ledger, 1, 2) is False
    ledger.close()


def test_every_transaction_is_synchronous_and_the_schema_has_a_version(ledger):
    pragmas = {name: ledger._read(f"PRAGMA {name}") for name in ("synchronous", "journal_mode", "user_version")}
    assert pragmas == {
        "synchronous": [{"synchronous": 2}],  # FULL
        "journal_mode": [{"journal_mode": "wal"}],
        "user_version": [{"user_version": SCHEMA_VERSION}],
    }
