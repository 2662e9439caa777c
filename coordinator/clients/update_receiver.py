"""Receiving the workers' updates: let in by key, round and client, before a byte of a state moves."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from coordinator.clients.access import RunAccess
from coordinator.clients.errors import RunNotReady, UpdateLate, UpdateRefused
from coordinator.clients.registry import ClientRegistry
from coordinator.clients.update_checks import check_header, distance_limit
from coordinator.clients.update_spool import Admit, Expected, UpdateSpool
from coordinator.rounds.clock import RoundClock
from coordinator.rounds.events import Accepted, Event, Refused
from coordinator.rounds.state_machine import RoundStateMachine
from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_types import LedgerFailure
from coordinator.storage.round_states import RunStates
from coordinator.threads import in_thread
from federa.config import Experiment
from federa.errors import FederaError
from protos import federation_pb2 as pb

FILE_LIMITS = (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRounds:
    """The rounds that updates come for: who is waited for, what was broadcast, for how long the round has been open,
    and the size of a state in fp32."""

    machine: RoundStateMachine
    states: RunStates
    clock: RoundClock
    state_bytes: int


class UpdateReceiver:
    """Receives the updates of one run, once its rounds are `open`ed. `post` takes what came of them; `cannot_write`
    ends the run, and says in which words; `show_bytes` is called when some have moved."""

    def __init__(
        self,
        access: RunAccess,
        *,
        config: Experiment,
        registry: ClientRegistry,
        ledger: Ledger,
        spool: UpdateSpool,
        post: Callable[[Event], None],
        cannot_write: Callable[[Exception], FederaError],
        show_bytes: Callable[[], None],
    ) -> None:
        self._access = access
        self._config = config
        self._registry = registry
        self._ledger = ledger
        self._spool = spool
        self._post = post
        self._cannot_write = cannot_write
        self._show_bytes = show_bytes
        self._rounds: OpenRounds | None = None
        self._limit: tuple[int, float | None] | None = None  # of which round, and how far from its broadcast
        self._late: set[tuple[int, int]] = set()

    def open(self, rounds: OpenRounds) -> None:
        """Take updates for these rounds from now on."""
        self._rounds = rounds

    async def receive(self, first: pb.Chunk, rest: AsyncIterator[pb.Chunk], admit: Admit) -> pb.UploadReply:
        """Receive an update. `admit` is called when its header is in order, to have it sent. Raises AuthError,
        UpdateLate, UpdateRefused, RunNotReady and UploadBroken; what cannot be written ends the run."""
        update = first.header.update
        self._access.check(update.worker, update.key)
        rounds = self._rounds
        assert rounds is not None, "a run that is ready has its rounds"
        try:
            if self._is_hosted(update) and await self._spool.has_accepted(update.round, update.client):
                return pb.UploadReply(already_accepted=True)
            self._check_wanted(rounds.machine, update)
            check_header(update, self._registry.examples.get(update.client), self._config.training)
            return await self._spool.receive(first, rest, admit, await self._expected(rounds, update))
        except UpdateLate as error:
            await self._record_late(rounds.machine, update, str(error))
            raise
        except UpdateRefused as error:
            self._post(Refused(update.round, update.client, str(error)))
            raise
        except (OSError, LedgerFailure) as error:
            if isinstance(error, OSError) and error.errno in FILE_LIMITS:
                raise RunNotReady(f"too many files are open: {error.strerror}") from None
            raise self._cannot_write(error) from None
        finally:
            self._show_bytes()

    def _is_hosted(self, update: pb.UpdateHeader) -> bool:
        return self._registry.hosts.get(update.client) == update.worker

    def _check_wanted(self, machine: RoundStateMachine, update: pb.UpdateHeader) -> None:
        name = f"update of client {update.client} for round {update.round}"
        if not self._is_hosted(update):
            raise UpdateLate(f"{name}: worker {update.worker} does not host this client")
        if self._access.is_over or not machine.takes(update.round, update.client):
            where = f"in round {machine.round}, which waits for {len(machine.awaited)} other updates"
            where = "over" if self._access.is_over else where
            raise UpdateLate(f"{name} comes too late, or was not asked for: the run is {where}")

    async def _record_late(self, machine: RoundStateMachine, update: pb.UpdateHeader, reason: str) -> None:
        """Record it, once for each round and client: what else comes is an echo, or no update of ours."""
        late = (update.round, update.client)
        if self._is_hosted(update) and 1 <= update.round <= machine.round and late not in self._late:
            self._late.add(late)
            await in_thread(
                self._ledger.record_failure,
                "late",
                round_=update.round,
                attempt=machine.attempt,
                client=update.client,
                device=update.worker,
                reason=reason,
            )

    async def _expected(self, rounds: OpenRounds, update: pb.UpdateHeader) -> Expected:
        round_, client = update.round, update.client
        broadcast = rounds.states.broadcast
        assert broadcast is not None, "a round that waits for updates was broadcast"
        if self._limit is None or self._limit[0] != round_:
            distances = await in_thread(self._ledger.distances, before=round_)
            limit = distance_limit(distances, self._config.federation.norm_limit)
            self._limit = (round_, limit)
        else:
            limit = self._limit[1]
        return Expected(
            wire=self._config.wire,
            broadcast=broadcast,
            state_bytes=rounds.state_bytes,
            distance_limit=limit,
            elapsed_s=rounds.clock.elapsed_s,
            wanted=lambda: rounds.machine.takes(round_, client),
            accepted=lambda: self._post(Accepted(round_, client)),
            failed=self._cannot_write,
        )
