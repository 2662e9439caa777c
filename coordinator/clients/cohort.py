"""The cohort whose devices are workers on gRPC streams: what they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from coordinator.clients.registry import ClientRegistry
from coordinator.clients.sessions import Session, Sessions
from coordinator.clients.worker_setup import WorkerSetup
from protos import federation_pb2 as pb

RELEASE_WAIT_S = 5.0
"""How long the last reports of the workers are waited for when a run is over."""


class GrpcCohort:
    """A Cohort (coordinator.rounds.cohort): makes the control messages of one run and sends them."""

    def __init__(self, run_id: str, sessions: Sessions, registry: ClientRegistry) -> None:
        self.is_releasing = False
        """The run is over: nobody is prepared any more."""
        self._run_id = run_id
        self._sessions = sessions
        self._registry = registry
        self._wait: pb.Wait | None = None
        self._streams: dict[str, tuple[Session, int]] = {}  # of each host, with its bytes from before the run
        self._control_bytes_of_old = 0
        self._unreleased: set[str] = set()
        self._all_released = asyncio.Event()

    @property
    def control_bytes(self) -> int:
        """Bytes of all control messages of the run so far."""
        open_now = sum(session.control_bytes - before for session, before in self._streams.values())
        return self._control_bytes_of_old + open_now

    # ---- the Cohort

    def announce(self, round_: int, device: str, clients: Sequence[int], state_sha256: str) -> bool:
        """Let a worker train. False when it has just left; it is announced to again when it is back."""
        train = pb.Train(run_id=self._run_id, round=round_, state_sha256=bytes.fromhex(state_sha256), clients=clients)
        return self._send(device, pb.CoordinatorMessage(train=train))

    def evaluate(self, round_: int, part: str, device: str, clients: Sequence[int], state_sha256: str) -> None:
        """Let a worker count on what these clients hold out, if it is here."""
        evaluate = pb.Evaluate(
            run_id=self._run_id, round=round_, part=part, state_sha256=bytes.fromhex(state_sha256), clients=clients
        )
        self._send(device, pb.CoordinatorMessage(evaluate=evaluate))

    def abandon(self, round_: int, clients: Sequence[int], reason: str) -> None:
        """Tell their workers that these clients' updates are not waited for any more."""
        hosts = self._registry.hosts
        for worker in sorted({hosts[client] for client in clients}):
            theirs = [client for client in clients if hosts[client] == worker]
            abandon = pb.Abandon(run_id=self._run_id, round=round_, clients=theirs, reason=reason)
            self._send(worker, pb.CoordinatorMessage(abandon=abandon))

    def wait(self, round_: int, phase: str) -> None:
        """Tell every host, now or when it joins, what it waits for while it has nothing to do."""
        self._wait = pb.Wait(run_id=self._run_id, round=round_, phase=phase)
        for name in sorted(self._streams):
            self._send(name, pb.CoordinatorMessage(wait=self._wait))

    # ---- a run's beginning and end

    def prepare(self, session: Session, setup: WorkerSetup) -> None:
        """Let a host prepare, on a stream that is new to this run."""
        name = session.name
        old, before = self._streams.get(name, (session, session.control_bytes))
        if old is not session:
            self._control_bytes_of_old += old.control_bytes - before
            before = session.control_bytes
        self._streams[name] = (session, before)
        self._unreleased.add(name)
        clients = self._registry.hosted_by(name)
        # What was prepared in this run before does not fail now for another reason, such as a busy machine.
        trial = any(client not in self._registry.examples for client in clients)
        session.send(pb.CoordinatorMessage(prepare=setup.order_for(clients, trial=trial)))
        if self._wait is not None:
            session.send(pb.CoordinatorMessage(wait=self._wait))

    async def release(self, reason: str) -> list[str]:
        """Let the workers free their memory, and wait for the reports that are still on their way. Returns those of
        which the last one did not come."""
        self.is_releasing = True
        release = pb.Release(run_id=self._run_id, reason=reason)
        for name in sorted(self._unreleased):
            if not self._send(name, pb.CoordinatorMessage(release=release)):
                self._unreleased.discard(name)
        if self._unreleased:
            try:
                await asyncio.wait_for(self._all_released.wait(), RELEASE_WAIT_S)
            except asyncio.TimeoutError:
                return sorted(self._unreleased)
        return []

    def released(self, worker: str) -> None:
        """Wait no more for a worker's last report."""
        self._unreleased.discard(worker)
        if not self._unreleased:
            self._all_released.set()

    def _send(self, worker: str, message: pb.CoordinatorMessage) -> bool:
        session = self._sessions.get(worker)
        if session is not None:
            session.send(message)
        return session is not None
