"""Everything of one run that its workers talk to."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.clients.access import RunAccess
from coordinator.clients.cohort import GrpcCohort
from coordinator.clients.downloads import Downloads
from coordinator.clients.registry import ClientRegistry
from coordinator.clients.sessions import Sessions
from coordinator.clients.telemetry import TelemetryReceiver
from coordinator.clients.update_receiver import OpenRounds, UpdateReceiver
from coordinator.clients.update_spool import UpdateSpool
from coordinator.clients.worker_handler import WorkerHandler
from coordinator.progress import ProgressBoard
from coordinator.rounds.events import Event
from coordinator.storage.run_storage import RunStorage
from federa.config import Experiment
from federa.errors import FederaError


class RunClients:
    """Puts together what worker streams (`handler`) and transfers (`downloads`, `receiver`) call, and what stands
    behind it."""

    def __init__(
        self,
        *,
        run_id: str,
        config: Experiment,
        storage: RunStorage,
        sessions: Sessions,
        board: ProgressBoard,
        elapsed_s: Callable[[], float],
        post: Callable[[Event | Exception], None],
        cannot_write: Callable[[Exception], FederaError],
    ) -> None:
        """Read what an earlier process recorded of them. Takes a moment; not on an event loop."""
        ledger = storage.ledger

        def show_bytes() -> None:
            board.count_bytes(ledger.bytes_down, ledger.bytes_up)

        self.access = RunAccess(run_id, sessions)
        self.registry = ClientRegistry(ledger)
        self.telemetry = TelemetryReceiver(ledger, storage.samples, config.federation.rounds, elapsed_s)
        self.cohort = GrpcCohort(run_id, sessions, self.registry)
        self.handler = WorkerHandler(
            registry=self.registry,
            cohort=self.cohort,
            sessions=sessions,
            ledger=ledger,
            telemetry=self.telemetry,
            board=board,
            post=post,
        )
        self.downloads = Downloads(
            self.access, folder=storage.folder, ledger=ledger, models=storage.models, show_bytes=show_bytes
        )
        self.spool = UpdateSpool(storage.folder, ledger)
        self.receiver = UpdateReceiver(
            self.access,
            config=config,
            registry=self.registry,
            ledger=ledger,
            spool=self.spool,
            post=post,
            cannot_write=cannot_write,
            show_bytes=show_bytes,
        )
        self._sessions = sessions
        self._show_bytes = show_bytes

    def bind(self) -> None:
        """Let the names of this run's workers be theirs alone, until `end`."""
        self._sessions.bind(self.registry.keys)

    def open(self, rounds: OpenRounds) -> None:
        """Let the workers in: from now on states go down and updates are taken."""
        self.downloads.serve(rounds.machine, rounds.states)
        self.receiver.open(rounds)
        self.access.is_ready = True
        self._show_bytes()

    async def release(self, reason: str) -> list[str]:
        """Let the workers go, and their names be free again. Returns those of which no last report came."""
        missing = await self.cohort.release(reason)
        self._sessions.unbind()
        self.access.is_over = True
        return missing
