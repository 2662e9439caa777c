"""The coordinator's process: what it serves, and experiments one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography.x509 import load_pem_x509_certificate

from coordinator.clients.sessions import Sessions
from coordinator.clients.telemetry import DeviceSample
from coordinator.evaluation.reference_model import TorchReferenceModel
from coordinator.experiment_runner import ExperimentRunner, ReferenceModelFactory, View
from coordinator.run_session import RunSession
from coordinator.security.revocation import BadList, Revocation
from coordinator.service.auth import AuthInterceptor
from coordinator.service.older_peers import OlderPeers
from coordinator.service.operator_service import OperatorService
from coordinator.service.worker_service import WorkerService
from coordinator.storage.experiment_record import ExperimentRecord, new_record, read_record
from coordinator.threads import in_thread
from federa.config import Experiment
from federa.errors import BadInput, shown
from protos import federation_pb2 as pb
from protos.address import BadAddress, host_port
from protos.channel import server_options
from protos.credentials import REVOKED_FILE, Credentials
from protos.federation_pb2_grpc import add_OperatorServiceServicer_to_server, add_WorkerServiceServicer_to_server
from protos.health import Health

MAX_QUEUED = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class CoordinatorStatus:
    """One moment of a coordinator, in copies that other threads may read. Of an experiment under way, or the last."""

    view: View
    experiment_id: str
    stage: str
    round: int
    rounds: int
    connected: int
    latest: Mapping[str, DeviceSample]
    """The newest sample of each device of the run under way."""


class Coordinator:
    """Everything that one process serves: workers, and experiments one after the other."""

    def __init__(self, path: Path, make_model: ReferenceModelFactory = TorchReferenceModel) -> None:
        self.path = path
        self.sessions = Sessions()
        self.experiments: dict[str, ExperimentRunner] = {}
        self.current: ExperimentRunner | None = None
        self.last: ExperimentRunner | None = None
        """The one under way, or the one before."""
        self.stopping = False
        self.auth: AuthInterceptor | None = None
        """Where calls are held against their certificates: with TLS."""
        self._make_model = make_model
        self.takes_experiments = True
        """Whether operators may submit."""
        self._queue: deque[ExperimentRunner] = deque()
        self._queued = asyncio.Event()
        self._submitting = asyncio.Lock()

    def recover(self) -> None:
        """Take up what an earlier process served from this folder: what it left unfinished is queued again, in the
        order in which it was submitted, and what is over can be asked for. Raises BadInput for what cannot be read."""
        if read_record(self.path) is not None:
            raise BadInput(f"--out: {self.path} holds one experiment, not those of a coordinator that serves")
        found = [(record, path) for path in self.path.iterdir() if path.is_dir() and (record := read_record(path))]
        for record, path in sorted(found, key=lambda entry: entry[0].submitted_at):
            self.last = self.queue(record, path)

    def queue(self, record: ExperimentRecord, path: Path) -> ExperimentRunner:
        """Take an experiment in, with `path` as its folder. One that is over is not run again."""
        runner = ExperimentRunner(record, path, self.sessions, self._make_model)
        self.experiments[record.experiment_id] = runner
        if not runner.over:
            self._queue.append(runner)
            self._queued.set()
            self._show_queue()
        return runner

    async def submit(self, experiment: Experiment, experiment_id: str = "") -> ExperimentRunner:
        """Take a new experiment in, or the one of that id again: it goes on where it is, also where it had failed or
        been ended early. Raises BadInput for an id that belongs to another experiment."""
        async with self._submitting:
            known = self.experiments.get(experiment_id)
            if known is not None:
                if known.experiment != experiment:
                    raise BadInput(
                        f"experiment {experiment_id} is another one here; submit this one under an id of its own"
                    )
                if known.finished or not known.over:
                    return known
            if not self.takes_experiments:
                raise BadInput(
                    "this coordinator runs one experiment of its own (--experiment) and takes no other: "
                    "start one with --serve"
                )
            if len(self._queue) >= MAX_QUEUED:
                raise BadInput(f"{MAX_QUEUED} experiments are waiting already; wait for one to end")
            record = new_record(experiment, experiment_id)
            folder = self.path / record.experiment_id
            await in_thread(record.write, folder)
            return self.queue(record, folder)

    async def work(self) -> None:
        """Run what is queued, one after the other, until `stop`."""
        while not self.stopping:
            await self.work_once()

    async def work_once(self) -> pb.Outcome:
        """Run the next experiment of the queue."""
        while not self._queue:
            self._queued.clear()
            await self._queued.wait()
        self.current = self.last = self._queue.popleft()
        self._show_queue()
        try:
            return await self.current.execute()
        finally:
            self.current = None

    async def end_early(self, runner: ExperimentRunner) -> None:
        """Cancel an experiment as its operator wishes, also one that waits in the queue."""
        await runner.end_early()
        self._show_queue()

    def _show_queue(self) -> None:
        """Let each experiment that waits show what runs before it."""
        before = [f"{_title(self.current)} (under way)"] if self.current is not None and not self.current.over else []
        for runner in self._queue:
            if not runner.over:
                count = "1 experiment" if len(before) == 1 else f"{len(before)} experiments"
                runner.board.stage("queued", f"{count} before this one: {', '.join(before)}" if before else "")
                before.append(_title(runner))

    def stop(self) -> bool:
        """Start nothing more and end what is under way, its result kept. False when there was nothing."""
        self.stopping = True
        if self.current is None:
            return False
        self.current.cancel(shut_down=True)
        return True

    def run(self, run_id: str | None = None) -> RunSession | None:
        """The run under way, when it has that id or any is meant."""
        run = self.current.run if self.current else None
        return run if run is not None and not run.is_over and run_id in (None, run.run_id) else None

    def expects(self, run_id: str) -> bool:
        """Whether a run of that id will be under way again, or for the first time."""
        return any(runner.expects(run_id) for runner in self.experiments.values())

    def status(self) -> CoordinatorStatus:
        """What HTTP shows of this moment."""
        run, last = self.run(), self.last
        progress = last.board.snapshot() if last is not None else None
        return CoordinatorStatus(
            view=last.view() if last is not None else View(folders=()),
            stage=progress.run.stage if progress is not None else "",
            experiment_id=last.experiment_id if last is not None else "",
            round=progress.run.round if progress is not None else 0,
            rounds=progress.run.rounds if progress is not None else 0,
            connected=len(self.sessions.names),
            latest=dict(run.clients.telemetry.latest) if run is not None else {},
        )

    async def serve(self, address: str, credentials: Credentials | None = None) -> tuple[grpc.aio.Server, str]:
        """Start listening; returns the server and the address with the port that was taken. With credentials it takes
        mutual TLS only, without them plaintext. Raises BadInput."""
        if credentials is not None:
            self.auth = AuthInterceptor(credentials, _revocation(credentials))
        server = grpc.aio.server(options=server_options(), interceptors=[self.auth] if self.auth else None)
        add_WorkerServiceServicer_to_server(WorkerService(self), server)
        add_OperatorServiceServicer_to_server(OperatorService(self), server)
        server.add_generic_rpc_handlers((OlderPeers(),))
        # A coordinator that listens serves: what ends its run ends its process.
        await Health(serving=True).add_to(server)
        try:
            host, _ = host_port(address)
            if credentials is None:
                bound = server.add_insecure_port(address)
            else:
                bound = server.add_secure_port(address, credentials.server())
        except BadAddress as error:
            raise BadInput(f"--listen: {error}") from None
        except RuntimeError:
            bound = 0
        if bound == 0:
            raise BadInput(
                f"--listen: cannot listen on {address}: the port is in use or the address is not this host's"
            )
        await server.start()
        return server, f"{host}:{bound}"


def _title(runner: ExperimentRunner) -> str:
    """An experiment's name and methods, as another operator's display may show them."""
    return (
        f"{shown(runner.experiment.name, 40)} by {', '.join(config.method.name for config in runner.experiment.runs())}"
    )


def _revocation(credentials: Credentials) -> Revocation:
    try:
        return Revocation(credentials.folder / REVOKED_FILE, load_pem_x509_certificate(credentials.ca_pem))
    except BadList as error:
        raise BadInput(f"--certs: {error}") from None
