"""What an experiment is doing, for everybody who watches."""

from __future__ import annotations

import asyncio

import pytest

from coordinator import progress
from coordinator.progress import ProgressBoard
from protos.federation_pb2 import Outcome


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(progress, "SNAPSHOT_INTERVAL_S", 0.0)


def watched(board, change):
    """The snapshots that a watcher gets while `change` runs."""

    async def scenario():
        async def watch():
            return [snapshot async for snapshot in board.watch()]

        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(0.01)
        await change()
        return await asyncio.wait_for(watching, 5)

    return asyncio.run(scenario())


def test_the_first_snapshot_comes_at_once_and_the_last_says_that_it_is_over():
    board = ProgressBoard("e1", 1)

    async def change():
        board.next_run("federa", 9, 0.75)
        await asyncio.sleep(0.01)
        board.run.stage = "training"
        board.run.values.append(0.5)
        board.touch()
        await asyncio.sleep(0.01)
        board.finish(Outcome(exit_code=3, message="missed"), ["result.json"])

    snapshots = watched(board, change)
    assert [snapshot.over for snapshot in snapshots] == [False] * (len(snapshots) - 1) + [True]
    assert [snapshot.run.stage for snapshot in snapshots[:3]] == ["", "preparing", "training"]
    last = snapshots[-1]
    assert (last.experiment_id, last.run_number, last.run_count) == ("e1", 1, 1)
    assert (last.run.method, last.run.rounds, last.run.target, list(last.run.values)) == ("federa", 9, 0.75, [0.5])
    assert (last.outcome.exit_code, last.outcome.message, list(last.files)) == (3, "missed", ["result.json"])


def test_who_comes_after_the_end_gets_the_last_snapshot():
    board = ProgressBoard("e1", 1)
    board.finish(Outcome(exit_code=0), [])

    async def nothing():
        pass

    (only,) = watched(board, nothing)
    assert only.over


def test_a_burst_of_changes_is_one_snapshot():
    board = ProgressBoard("e1", 1)

    async def change():
        for updates in range(100):
            board.run.updates = updates
            board.touch()
        await asyncio.sleep(0.01)
        board.finish(Outcome(), [])

    snapshots = watched(board, change)
    assert [snapshot.run.updates for snapshot in snapshots] == [0, 99, 99]


def test_snapshots_come_at_most_five_a_second(monkeypatch):
    pauses = []
    sleep = asyncio.sleep

    async def recorded(seconds):
        pauses.append(seconds)
        await sleep(0)

    board = ProgressBoard("e1", 1)

    async def scenario():
        async for snapshot in board.watch():
            if snapshot.run.updates == 3:
                board.finish(Outcome(), [])
            board.run.updates += 1
            board.touch()

    monkeypatch.setattr(progress, "SNAPSHOT_INTERVAL_S", 0.2)
    monkeypatch.setattr(asyncio, "sleep", recorded)
    asyncio.run(asyncio.wait_for(scenario(), 5))
    assert pauses and set(pauses) == {0.2}


def test_a_change_while_a_watcher_is_busy_is_not_missed():
    board = ProgressBoard("e1", 1)

    async def scenario():
        seen = []
        async for snapshot in board.watch():
            seen.append(snapshot.over)
            # A slow watcher: this happens between two of its snapshots.
            if len(seen) == 1:
                board.finish(Outcome(), [])
        return seen

    assert asyncio.run(asyncio.wait_for(scenario(), 5)) == [False, True]


def test_a_snapshot_is_a_copy():
    board = ProgressBoard("e1", 2)
    before = board.snapshot()
    board.next_run("federa", 9, 0.75)
    board.worker("bob").phase = "train"
    assert (before.run_number, before.run.method, list(before.workers)) == (0, "", [])


def test_workers_are_listed_once_by_name():
    board = ProgressBoard("e1", 1)
    board.worker("cyd").phase = "idle"
    board.worker("ada").client = 4
    board.worker("cyd").phase = "train"
    assert [(worker.name, worker.phase, worker.client) for worker in board.snapshot().workers] == [
        ("ada", "", 4),
        ("cyd", "train", 0),
    ]


def test_the_next_run_starts_over():
    board = ProgressBoard("e1", 2)
    board.next_run("lora", 9, 0.75)
    board.run.values.append(0.5)
    board.run.bytes_up = 10
    board.next_run("federa", 8, 0.5)
    now = board.snapshot()
    assert (now.run_number, now.run.method, now.run.rounds, now.run.stage) == (2, "federa", 8, "preparing")
    assert (list(now.run.values), now.run.bytes_up) == ([], 0)
