"""Where the workers' downloads and uploads are let in: by key, round and client, before a byte of a state moves."""

from __future__ import annotations

import errno
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.clients.sessions import Sessions
from coordinator.clients.update_spool import Admit, Expected, Late, Refused, distance_limit
from coordinator.rounds.events import Accepted
from coordinator.rounds.events import Refused as RefusedUpdate
from coordinator.storage.ledger_types import LedgerFailure
from federa.errors import FederaError
from protos import federation_pb2 as pb

if TYPE_CHECKING:
    from coordinator.rounds.executor import RoundExecutor
    from coordinator.run_session import RunSession

_FILE_LIMITS = (errno.EMFILE, errno.ENFILE)


class NotYet(FederaError):
    """The run is being prepared or recovered: the same call succeeds later."""


class AuthError(FederaError):
    """Not the worker that it says it is."""


class UpdateReceiver:
    """Of one run."""

    def __init__(self, run: RunSession, sessions: Sessions) -> None:
        self._run = run
        self._sessions = sessions
        self._limits: dict[int, float | None] = {}
        self._late: set[tuple[int, int]] = set()

    def state(self, request: pb.DownloadRequest) -> Path | None:
        """The file that a worker asks for, a state or one of the base model's, or None when there is no such file now.
        Raises Stranger."""
        conductor = self._conductor()  # first: the keys are known once the run is prepared
        self._check_key(request.worker, request.key)
        if (served := self._run.shelf.path(request.sha256)) is not None:
            return served if served.is_file() else None
        digest = request.sha256.hex()
        broadcast = conductor.broadcast
        known = {conductor.start, broadcast.sha256 if broadcast else conductor.start}
        return self._run.folder.state(digest) if digest in known else None

    def sent(self, request: pb.DownloadRequest, wire_bytes: int, state_bytes: int) -> None:
        """So much of what a worker asked for has gone down to it; `state_bytes` where it was the whole of a state."""
        if self._run.shelf.path(request.sha256) is not None:
            self._run.shelf.wire_bytes += wire_bytes
        elif not self._run.over:
            worker = request.worker
            round_ = max(1, self._conductor().rounds.round)
            self._run.ledger.downloaded(round_=round_, device=worker, wire_bytes=wire_bytes, state_bytes=state_bytes)
            self._run.count_bytes()

    async def upload(self, first: pb.Chunk, rest: AsyncIterator[pb.Chunk], admit: Admit) -> pb.UploadReply:
        """An update. `admit` is called when its header is in order, to have it sent. Raises Stranger, Late, Refused,
        NotYet, Broken; what cannot be written ends the run."""
        update = first.header.update
        conductor = self._conductor()
        self._check_key(update.worker, update.key)
        ledger = self._run.ledger
        try:
            hosted = conductor.rounds.hosts.get(update.client) == update.worker
            if hosted and ledger.has_accepted(update.round, update.client):
                return pb.UploadReply(already_accepted=True)
            self._check_header(conductor, update)
            reply = await self._run.intake.take(first, rest, admit, self._expected(conductor, update))
        except Late as error:
            self._note_late(conductor, update, str(error))
            raise
        except Refused as error:
            self._run.post(RefusedUpdate(update.round, update.client, str(error)))
            raise
        except (OSError, LedgerFailure) as error:
            if isinstance(error, OSError) and error.errno in _FILE_LIMITS:
                raise NotYet(f"too many files are open: {error.strerror}") from None
            raise self._run.cannot_write(error) from None
        finally:
            self._run.count_bytes()
        return reply

    def _conductor(self) -> RoundExecutor:
        conductor = self._run.conductor
        if conductor is None:
            raise NotYet(f"run {self._run.run_id} is being prepared")
        return conductor

    def _check_key(self, worker: str, key: str) -> None:
        if not self._sessions.has_key(worker, key):
            raise AuthError(f"this is not the worker {worker!r} of run {self._run.run_id}: it has another key")

    def _check_header(self, conductor: RoundExecutor, update: pb.UpdateHeader) -> None:
        rounds = conductor.rounds
        name = f"update of client {update.client} for round {update.round}"
        if update.client not in rounds.hosts or rounds.hosts[update.client] != update.worker:
            raise Late(f"{name}: worker {update.worker} does not host this client")
        if self._run.over or not rounds.takes(update.round, update.client):
            raise Late(f"{name} comes too late, or was not asked for: the run is {self._where(conductor)}")
        announced = self._run.crew.examples.get(update.client)
        if announced is None:
            raise NotYet(f"worker {update.worker} has not said how many examples it has")
        if update.examples != announced:
            raise Refused(f"{name} must stand for the {announced} examples announced, not for {update.examples}")
        if not math.isfinite(update.loss):
            raise Refused(f"{name} has the loss {update.loss}")
        if not all(0 <= milliseconds < math.inf for milliseconds in update.step_ms):
            raise Refused(f"{name} has a step time that no clock says")
        training = self._run.config.training
        own = training.micro_batch_size or training.batch_size
        if update.micro_batch and update.micro_batch >= own:
            raise Refused(
                f"{name} has a micro-batch of {update.micro_batch}, which is not below the experiment's {own}"
            )

    def _note_late(self, conductor: RoundExecutor, update: pb.UpdateHeader, reason: str) -> None:
        """Record it, once for each round and client: what else comes is an echo, or no update of ours."""
        rounds = conductor.rounds
        late = (update.round, update.client)
        hosted = rounds.hosts.get(update.client) == update.worker
        if hosted and 1 <= update.round <= rounds.round and late not in self._late:
            self._late.add(late)
            self._run.ledger.setback(
                "late",
                round_=update.round,
                attempt=rounds.attempt,
                client=update.client,
                device=update.worker,
                reason=reason,
            )

    def _where(self, conductor: RoundExecutor) -> str:
        if self._run.over:
            return "over"
        return f"in round {conductor.rounds.round}, which waits for {len(conductor.rounds.awaited)} other updates"

    def _expected(self, conductor: RoundExecutor, update: pb.UpdateHeader) -> Expected:
        round_, client = update.round, update.client
        if round_ not in self._limits:
            factor = self._run.config.federation.norm_limit
            self._limits = {round_: distance_limit(self._run.ledger.distances(before=round_), factor)}
        assert conductor.broadcast is not None
        return Expected(
            wire=self._run.config.wire,
            broadcast=conductor.broadcast,
            state_bytes=self._run.state_bytes,
            distance_limit=self._limits[round_],
            moment=conductor.elapsed_s,
            wanted=lambda: conductor.rounds.takes(round_, client),
            accepted=lambda: self._run.post(Accepted(round_, client)),
            failed=self._run.cannot_write,
        )
