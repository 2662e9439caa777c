"""The workers of one run: who hosts which client, what they are told, and what they report."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence

from coordinator.hosting import Wish
from coordinator.ledger import Ledger
from coordinator.progress import ProgressBoard
from coordinator.rounds import Announce, Event, Joined, Left
from coordinator.sessions import Session, Sessions
from federa.errors import BadInput, FederaError
from protos import federation_pb2 as pb

RELEASE_WAIT_S = 5.0
"""How long the last reports of the workers are waited for when a run is over."""


class Crew:
    """Worker streams call `joined`, `left` and `heard`; what matters to the rounds goes on to `post`."""

    def __init__(
        self,
        *,
        run_id: str,
        sessions: Sessions,
        ledger: Ledger,
        board: ProgressBoard,
        post: Callable[[Event | FederaError], None],
    ) -> None:
        self._run_id = run_id
        self._sessions = sessions
        self._ledger = ledger
        self._board = board
        self._post = post
        self._hosts: Mapping[int, str] = {}
        self._brief = pb.Prepare()
        self._shards: Sequence[Sequence[int]] = ()
        self._control_bytes_before: dict[Session, int] = {}
        self._unreleased: set[str] = set()
        self._releasing = False
        self._all_released = asyncio.Event()

    # ---- what they are told

    async def gather(self, wanted: int) -> dict[str, Wish]:
        """Wait until so many workers are connected; the first of them by name, with what they wish to host."""
        while len(self._sessions.names) < wanted:
            self._board.stage("waiting", f"{len(self._sessions.names)} of {wanted} devices are connected")
            await self._sessions.change()
        chosen = {}
        for name in self._sessions.names[:wanted]:
            session = self._sessions.get(name)
            assert session is not None
            chosen[name] = Wish(clients=tuple(session.hello.clients), own_data=session.hello.own_data)
        return chosen

    def brief(self, hosts: Mapping[int, str], prepare: pb.Prepare, shards: Sequence[Sequence[int]]) -> None:
        """Let every host prepare, now or when it joins: `prepare`, with its clients' shards filled in."""
        self._hosts, self._brief, self._shards = hosts, prepare, shards
        for name in sorted(set(hosts.values())):
            session = self._sessions.get(name)
            if session is not None:
                self.joined(session)

    def announce(self, order: Announce, state_sha256: str) -> bool:
        """Let a worker train. False when it has just left; it is announced to again when it is back."""
        session = self._sessions.get(order.worker)
        if session is None:
            return False
        train = pb.Train(
            run_id=self._run_id, round=order.round, state_sha256=bytes.fromhex(state_sha256), clients=order.clients
        )
        session.send(pb.CoordinatorMessage(train=train))
        return True

    async def release(self, reason: str) -> int:
        """Let the workers free their memory, and wait for the reports that are still on their way. Returns the bytes
        of all control messages of the run."""
        self._releasing = True
        for name in sorted(self._unreleased):
            session = self._sessions.get(name)
            if session is None:
                self._unreleased.discard(name)
            else:
                session.send(pb.CoordinatorMessage(release=pb.Release(run_id=self._run_id, reason=reason)))
        if self._unreleased:
            try:
                await asyncio.wait_for(self._all_released.wait(), RELEASE_WAIT_S)
            except asyncio.TimeoutError:
                self._board.run.note = f"no last report from {', '.join(sorted(self._unreleased))}"
        return sum(session.control_bytes - before for session, before in self._control_bytes_before.items())

    # ---- what they tell

    def joined(self, session: Session) -> None:
        """A worker's stream is up, for the first time or again."""
        hosted = [client for client, host in self._hosts.items() if host == session.name]
        if not hosted:
            return
        self._control_bytes_before.setdefault(session, session.control_bytes)
        self._unreleased.add(session.name)
        prepare = pb.Prepare()
        prepare.CopyFrom(self._brief)
        prepare.shards.extend(pb.Shard(client=client, indices=self._shards[client]) for client in hosted)
        session.send(pb.CoordinatorMessage(prepare=prepare))

    def left(self, name: str) -> None:
        """A worker's stream is gone."""
        self._post(Left(name))
        if self._releasing:
            self._was_released(name)

    def heard(self, session: Session, message: pb.WorkerMessage) -> None:
        """A report that names this run. One of a worker that hosts nothing here is nobody's business."""
        if session.name not in self._hosts.values():
            return
        match message.WhichOneof("message"):
            case "prepared":
                chosen = {"device": message.prepared.device, "precision": message.prepared.precision}
                self._ledger.device(session.name, {**session.hello.device, **session.hello.versions, **chosen})
                self._board.worker(session.name).device = ", ".join(chosen.values())
                self._post(Joined(session.name))
            case "trouble":
                trouble = message.trouble
                where = f"client {trouble.client} in round {trouble.round}" if trouble.round else "preparing"
                kind = BadInput if trouble.bad_input else FederaError
                self._post(kind(f"worker {session.name}, {where}: {' '.join(trouble.message.split())}"))
            case "activity":
                entry = self._board.worker(session.name)
                activity = message.activity
                entry.phase, entry.client, entry.progress = activity.phase, activity.client, activity.progress
                self._board.touch()
            case "phase_time":
                report = message.phase_time
                if not 0 <= report.seconds < math.inf:
                    return  # no clock says this, and JSON has no word for it
                self._ledger.phase(
                    round_=report.round,
                    device=session.name,
                    client=report.client,
                    phase=report.phase,
                    seconds=report.seconds,
                )
            case "released":
                self._was_released(session.name)

    def _was_released(self, name: str) -> None:
        self._unreleased.discard(name)
        if not self._unreleased:
            self._all_released.set()
