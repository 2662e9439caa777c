"""Hostile peers: each gets a clear answer, costs a bounded amount of memory, and changes nothing for the honest."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading

import grpc
import hostile
import psutil
import pytest
from hostile import MEGABYTE, Insider, Outsider
from live_coordinator import LiveCoordinator, averaged, experiment
from processes import NOOP, Process, ended, listening

from benchmarks.footprint import sample
from protos import federation_pb2 as pb
from protos.channel import client_options

ROUNDS = 3
HONEST = {"devices": 2, "clients": 4, "clients_per_round": 4, "rounds": ROUNDS}
WITH_MALLORY = {**HONEST, "devices": 3, "clients": 6, "clients_per_round": 6, "quorum": 4}
MAX_GROWTH_BYTES = 64 * MEGABYTE
BYTES_PER_CONNECTION = 16 << 10
"""What gRPC itself keeps for a connection that sends nothing (measured: 13 KB)."""


class Cluster:
    """A coordinator that serves, and two honest workers that take their time. One for all tests of this file."""

    def __init__(self, folder):
        self.folder = folder
        self.trickling = None
        env = {"NOOP_SCORES": "0", "NOOP_TRAIN_S": "0.2"}
        serve = ["coordinator", "--serve", "--out", str(folder / "out"), "--listen", "127.0.0.1:0"]
        self.coordinator = Process([*NOOP, *serve], folder, env)
        self.address = listening(self.coordinator)
        common = ["worker", "--coordinator", self.address, "--state", str(folder / "keys"), "--name"]
        self.workers = [Process([*NOOP, *common, name], folder, env) for name in ("a", "b")]
        self._start_bytes = self._peak_bytes = 0
        self._watching = threading.Event()

    @contextlib.contextmanager
    def watched(self):
        """Look at the coordinator's anonymous memory while the block runs."""
        self._start_bytes = self._peak_bytes = sample(self.coordinator.popen.pid).anonymous_bytes
        over = threading.Event()

        def watch():
            while not over.wait(0.05):
                with contextlib.suppress(ProcessLookupError):
                    self._peak_bytes = max(self._peak_bytes, sample(self.coordinator.popen.pid).anonymous_bytes)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def growth_bytes(self):
        """How far its memory's peak has risen since `watched` began."""
        return self._peak_bytes - self._start_bytes

    def connections(self):
        return psutil.Process(self.coordinator.popen.pid).num_fds()

    def ledger(self):
        newest = max((self.folder / "out").glob("*/ledger.sqlite"), key=lambda path: path.parent.stat().st_ctime_ns)
        return sqlite3.connect(f"file:{newest}?mode=ro", uri=True)

    def host_of(self, client):
        """Its worker's name and key, stolen."""
        with contextlib.closing(self.ledger()) as ledger:
            query = "SELECT name, key FROM host JOIN device ON device = name WHERE client = ?"
            return ledger.execute(query, (client,)).fetchone()

    def seconds(self, device):
        """Seconds of a device's telemetry that are in the ledger."""
        with contextlib.closing(self.ledger()) as ledger:
            return ledger.execute("SELECT total(seconds) FROM phase WHERE device = ?", (device,)).fetchone()[0]

    def accepted(self, round_, client):
        with contextlib.closing(self.ledger()) as ledger:
            query = "SELECT 1 FROM contribution WHERE round = ? AND client = ?"
            return ledger.execute(query, (round_, client)).fetchone()

    def play(self, scenario):
        """Run `scenario(live)` beside the federation."""

        async def run():
            async with grpc.aio.insecure_channel(self.address, options=client_options()) as channel:
                live = LiveCoordinator(self.address, channel)
                live.channel = channel
                return await asyncio.wait_for(scenario(live), 25)

        with self.watched():
            return asyncio.run(run())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    with ended(cluster.coordinator, *cluster.workers):
        yield cluster


UNDISTURBED = averaged(ROUNDS, range(4))
"""The final state of a run of the honest among themselves."""


@contextlib.asynccontextmanager
async def submitted(live, federation):
    """An experiment under way; one that a test leaves in the middle is ended, for the next test's sake."""
    experiment_id = await live.submit(experiment(target=1.0, **federation))
    try:
        yield experiment_id
    finally:
        await live.operation.Cancel(pb.CancelRequest(experiment_id=experiment_id))


async def _final(live, experiment_id):
    last = await live.end(experiment_id)
    assert last.outcome.exit_code == 3, last.outcome
    assert len(last.run.values) == ROUNDS
    return await live.fetch("final/state.safetensors", experiment_id)


@pytest.mark.parametrize("fault", Outsider, ids=lambda fault: fault.name.lower())
def test_the_honest_finish_whatever_a_stranger_does(cluster, fault):
    async def scenario(live):
        async with submitted(live, HONEST) as experiment_id:
            await live.until(lambda snapshot: snapshot.run.stage == "training", experiment_id)
            await getattr(hostile, fault.name.lower())(live, cluster)
            return await _final(live, experiment_id)

    assert cluster.play(scenario) == UNDISTURBED
    silent = 10_000 if fault is Outsider.CONNECTIONS_THAT_SAY_NOTHING else 0
    assert cluster.growth_bytes() < MAX_GROWTH_BYTES + silent * BYTES_PER_CONNECTION, cluster.growth_bytes() / MEGABYTE
    assert all(process.popen.poll() is None for process in (cluster.coordinator, *cluster.workers))


@pytest.mark.parametrize("fault", Insider, ids=lambda fault: fault.name.lower())
def test_the_honest_finish_whatever_a_worker_of_the_run_does(cluster, fault):
    async def scenario(live):
        mallory = await live.worker("mallory", clients=[4, 5])
        async with submitted(live, WITH_MALLORY) as experiment_id:
            await mallory.get_ready()
            await getattr(hostile, fault.name.lower())(mallory, cluster)
            giving_up = asyncio.ensure_future(_give_up(mallory))
            final = await _final(live, experiment_id)
            await giving_up
            mallory.call.cancel()
            return final

    assert cluster.play(scenario) == UNDISTURBED
    assert cluster.growth_bytes() < MAX_GROWTH_BYTES, cluster.growth_bytes() / MEGABYTE
    with contextlib.closing(cluster.ledger()) as ledger:
        # Nothing of it counts, and each client of the honest counts once a round.
        rows = ledger.execute("SELECT round, client FROM contribution ORDER BY round, client").fetchall()
    assert rows == [(round_, client) for round_ in range(1, ROUNDS + 1) for client in range(4)]
    assert all(process.popen.poll() is None for process in (cluster.coordinator, *cluster.workers))


async def _give_up(mallory):
    """Nothing comes of its clients in any round, so that nobody waits for them."""
    while True:
        for client in mallory.train.clients:
            client_error = pb.ClientError(
                run_id=mallory.train.run_id, round=mallory.train.round, client=client, message="no"
            )
            await mallory.send(client_error=client_error)
        message = await mallory.call.read()
        kind = message.WhichOneof("message")
        if kind == "release":
            await mallory.send(released=pb.Released(run_id=message.release.run_id))
            return
        if kind == "train":
            mallory.train = message.train
