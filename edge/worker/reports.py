"""What a run on this worker reports to the coordinator."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict

import grpc

from edge.training.runtime import Setup
from edge.worker.retry import rpc_message
from edge.worker.transfer import Spoiled, Stalled
from federa.errors import BadInput, FederaError, described
from federa.tasks.metric import Counters
from protos import federation_pb2 as pb

log = logging.getLogger("federa.worker")

# The transport's: that a transfer was tried again and again in vain says nothing of the next one.
_PASSING = (grpc.aio.AioRpcError, Spoiled, Stalled)

ACTIVITY_INTERVAL_S = 0.5
"""How often the progress of one thing is reported."""


def log_refused(client: int, round_: int, why: str) -> None:
    """Log that an update is not wanted, whether it was sent or is still in the making."""
    log.warning("the coordinator refused client %d's update for round %d: %s", client, round_, why)


class Reports:
    """Makes a run's messages; `post` sends one."""

    def __init__(self, run_id: str, post: Callable[[pb.WorkerMessage], None]) -> None:
        self._run_id = run_id
        self._post = post

    def prepared(self, setup: Setup, power: pb.Power) -> None:
        """It can train."""
        prepared = pb.Prepared(
            run_id=self._run_id,
            device=setup.device,
            precision=setup.precision,
            examples=setup.examples,
            threads=setup.threads,
            power=power,
            cut={client: pb.CutRecords(**asdict(counted)) for client, counted in setup.cut.items()},
        )
        self._post(pb.WorkerMessage(prepared=prepared))

    def activity(self, round_: int, client: int, phase: str, progress: float = 0.0) -> None:
        """What it does now."""
        now = pb.Activity(run_id=self._run_id, round=round_, client=client, phase=phase, progress=progress)
        self._post(pb.WorkerMessage(activity=now))

    def counters(self, round_: int, part: str, client: int, counters: Counters) -> None:
        """What a client's held-out part says of a state."""
        message = pb.Counters(run_id=self._run_id, round=round_, part=part, client=client, counters=counters)
        self._post(pb.WorkerMessage(counters=message))

    def client_error(self, round_: int, client: int, error: Exception) -> None:
        """A client came to nothing, or with round 0 the run's preparation."""
        if isinstance(error, FederaError):
            log.error("%s", error)
            message = str(error)
        elif isinstance(error, grpc.aio.AioRpcError):
            message = rpc_message(error)
            log.error("%s", message)
        else:
            log.error("run %s failed here", self._run_id, exc_info=error)
            message = described(error)
        client_error = pb.ClientError(
            run_id=self._run_id,
            round=round_,
            client=client,
            message=message,
            bad_input=isinstance(error, BadInput),
            passing=isinstance(error, _PASSING),
        )
        self._post(pb.WorkerMessage(client_error=client_error))
