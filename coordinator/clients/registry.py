"""The workers of one run: who hosts which client, what they are told, and what they report."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from coordinator.clients.placement import PlacementRequest, assign_clients
from coordinator.clients.sessions import Session, Sessions
from coordinator.clients.telemetry import MAX_WORDS, TelemetryReceiver
from coordinator.progress import ProgressBoard
from coordinator.rounds.events import Announce, Event, Failed, Joined, Left, Unable
from coordinator.storage.ledger import Ledger
from federa.errors import BadInput, FederaError
from protos import federation_pb2 as pb

log = logging.getLogger("federa.coordinator")

RELEASE_WAIT_S = 5.0
"""How long the last reports of the workers are waited for when a run is over."""
MAX_EXAMPLES = 1 << 31
"""Of one client: far above any data set, and what SQLite holds and float64 weighs exactly."""


class Listener(Protocol):
    """Asks the devices what a state is worth (coordinator.evaluation.federated), and hears of them at once: while the
    rounds wait for it, too."""

    def ready(self, worker: str) -> None: ...

    def changed(self) -> None: ...

    def counted(self, worker: str, said: pb.Counters, most: int) -> None: ...

    def failed(self, worker: str, round_: int, client: int) -> None: ...


class ClientRegistry:
    """Worker streams call `joined`, `left` and `heard`; what matters to the rounds goes on to `post`."""

    def __init__(
        self,
        *,
        run_id: str,
        sessions: Sessions,
        ledger: Ledger,
        telemetry: TelemetryReceiver,
        board: ProgressBoard,
        post: Callable[[Event | FederaError], None],
    ) -> None:
        self.hosts: dict[int, str] = {}
        self.examples: dict[int, int] = {}
        """What each client's host announced."""
        self.ready: set[str] = set()
        """Hosts that have prepared, and said so on the stream that is up."""
        self.listener: Listener | None = None
        self._run_id = run_id
        self._sessions = sessions
        self._ledger = ledger
        self._telemetry = telemetry
        self._board = board
        self._post = post
        self._clients = self._devices = self._enough = 0
        self._hosting: set[str] = set()
        self._unable: set[str] = set()
        self._brief: pb.Prepare | None = None
        self._shards: Sequence[Sequence[int]] = ()
        self._split_there = self._own_data_only = False
        self._began = time.monotonic()
        self._left_at: dict[str, float] = {}
        self._streams: dict[str, tuple[Session, int]] = {}  # of each host, with its bytes from before the run
        self._control_bytes_of_old = 0
        self._awaited: pb.Wait | None = None
        self._unreleased: set[str] = set()
        self._releasing = False
        self._all_released = asyncio.Event()
        # Of an earlier process of this run: its workers may come with their reports before anything is prepared.
        for row in ledger.clients():
            self.hosts[row["client"]] = row["device"]
            if row["examples"] is not None:
                self.examples[row["client"]] = row["examples"]
        self._hosting = set(self.hosts.values())
        sessions.bind(ledger.keys())

    # ---- what they are told

    async def gather(self, *, clients: int, devices: int, enough: int) -> int:
        """Wait until enough of the devices have been seen, and deal the clients out. Those of an earlier process of
        this run count, connected or not: they come back. Returns how many devices the first round waits for."""
        self._clients, self._devices = clients, devices
        while len(names := sorted({*self._sessions.names, *self._hosting})) < enough:
            self._board.stage("waiting", f"{len(names)} of {enough} devices are connected")
            await self._sessions.change()
        new = [name for name in self._sessions.names if name not in self._hosting]
        self._host(new[: devices - len(self._hosting)])
        self._enough = min(enough, len(self._hosting))
        return self._enough

    def brief(
        self, prepare: pb.Prepare, shards: Sequence[Sequence[int]], *, split_there: bool = False,
        own_data_only: bool = False,
    ) -> None:  # fmt: skip
        """Let every host prepare, now or when it joins: `prepare`, with its clients' shards filled in. `split_there`
        says that the devices hold a part of them out, `own_data_only` that there are none: everybody brings a file."""
        self._brief, self._shards = prepare, shards
        self._split_there, self._own_data_only = split_there, own_data_only
        for name in self._sessions.names:
            session = self._sessions.get(name)
            assert session is not None
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

    def evaluate(self, worker: str, order: pb.Evaluate, clients: Sequence[int]) -> None:
        """Let a worker count on what these clients hold out, if it is here."""
        session = self._sessions.get(worker)
        if session is not None:
            order.run_id = self._run_id
            order.clients[:] = clients
            session.send(pb.CoordinatorMessage(evaluate=order))

    def abandon(self, round_: int, clients: Sequence[int], reason: str) -> None:
        """Tell their workers that these clients' updates are not waited for any more."""
        for worker in sorted({self.hosts[client] for client in clients}):
            session = self._sessions.get(worker)
            if session is not None:
                theirs = [client for client in clients if self.hosts[client] == worker]
                order = pb.Abandon(run_id=self._run_id, round=round_, clients=theirs, reason=reason)
                session.send(pb.CoordinatorMessage(abandon=order))

    def wait(self, round_: int, phase: str) -> None:
        """Tell every host, now or when it joins, what it waits for while it has nothing to do: with phase idle for the
        round's other clients, with evaluate for the evaluation of the round's state."""
        self._awaited = pb.Wait(run_id=self._run_id, round=round_, phase=phase)
        for name in sorted(self._streams):
            session = self._sessions.get(name)
            if session is not None:
                session.send(pb.CoordinatorMessage(wait=self._awaited))

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
        self._sessions.unbind()
        return self.control_bytes

    @property
    def control_bytes(self) -> int:
        """Of all control messages of the run so far."""
        open_now = sum(session.control_bytes - before for session, before in self._streams.values())
        return self._control_bytes_of_old + open_now

    # ---- who is here

    @property
    def clients(self) -> int:
        """How many the experiment has, hosted or not."""
        return self._clients

    @property
    def able(self) -> list[str]:
        """Hosts, connected or not, but those that said that they cannot prepare."""
        return sorted(self._hosting - self._unable)

    def away_s(self, worker: str) -> float | None:
        """For how long a host has been away, as far as this process knows; None for one that is here."""
        if self._sessions.get(worker) is not None:
            return None
        return time.monotonic() - self._left_at.get(worker, self._began)

    # ---- what they tell

    def joined(self, session: Session) -> None:
        """A worker's stream is up, for the first time or again."""
        if self._brief is None or self._releasing:
            return
        if session.name not in self._hosting and not self._host_late(session.name):
            return
        self.ready.discard(session.name)
        old, before = self._streams.get(session.name, (session, session.control_bytes))
        if old is not session:
            self._control_bytes_of_old += old.control_bytes - before
            before = session.control_bytes
        self._streams[session.name] = (session, before)
        self._unreleased.add(session.name)
        prepare = pb.Prepare()
        prepare.CopyFrom(self._brief)
        prepare.shards.extend(
            pb.Shard(client=client, indices=self._shards[client]) for client in self.hosted_by(session.name)
        )
        session.send(pb.CoordinatorMessage(prepare=prepare))
        if self._awaited is not None:
            session.send(pb.CoordinatorMessage(wait=self._awaited))

    def left(self, name: str) -> None:
        """A worker's stream is gone."""
        self._left_at[name] = time.monotonic()
        self.ready.discard(name)
        self._post(Left(name))
        self._changed()
        if self._releasing:
            self._was_released(name)

    def heard(self, session: Session, message: pb.WorkerMessage) -> None:
        """A report that names this run. One of a worker that hosts nothing here is nobody's business."""
        if session.name not in self._hosting:
            return
        match message.WhichOneof("message"):
            case "prepared":
                self._prepared(session, message.prepared)
            case "client_error":
                self._trouble(session.name, message.client_error)
            case "activity":
                entry = self._board.worker(session.name)
                activity = message.activity
                entry.phase, entry.client, entry.progress = activity.phase[:20], activity.client, activity.progress
                self._board.touch()
            case "telemetry":
                self._telemetry.take(session.name, self.hosted_by(session.name), message.telemetry)
            case "counters":
                self._counted(session, message.counters)
            case "released":
                self._was_released(session.name)

    def _prepared(self, session: Session, said: pb.Prepared) -> None:
        clients = self.hosted_by(session.name)
        own_data = session.hello.own_data
        if self._own_data_only and not own_data:
            self._cannot(session.name, BadInput("it has no data of its own: start it with --data FILE"))
            return
        for client in clients:
            count, dealt = said.examples.get(client, 0), len(self._shards[client])
            right = count <= dealt if self._split_there else count == dealt
            if not (1 <= count <= MAX_EXAMPLES and (own_data or right)):
                must = f"1 to {MAX_EXAMPLES}" if own_data else f"the {dealt} that were dealt to it"
                must = f"1 to {must}" if self._split_there and not own_data else must
                self._cannot(session.name, BadInput(f"it has {count} examples of client {client}, must be {must}"))
                return
        chosen = {"device": said.device[:MAX_WORDS], "precision": said.precision[:MAX_WORDS]}
        examples = {client: said.examples[client] for client in clients}
        self._ledger.prepared(session.name, {**session.hello.device, **session.hello.versions, **chosen}, examples)
        if said.HasField("power"):
            self._telemetry.powered(session.name, said.power)
        self.examples.update(examples)
        self._unable.discard(session.name)
        self._board.worker(session.name).device = ", ".join(chosen.values())
        self.ready.add(session.name)
        self._post(Joined(session.name, tuple(clients)))
        if self.listener is not None:
            self.listener.ready(session.name)
        self._changed()

    def _counted(self, session: Session, said: pb.Counters) -> None:
        most = MAX_EXAMPLES
        if not session.hello.own_data and said.client < len(self._shards):
            most = len(self._shards[said.client]) - self.examples.get(said.client, 0)
        if self.listener is not None:
            self.listener.counted(session.name, said, most)

    def _changed(self) -> None:
        if self.listener is not None:
            self.listener.changed()

    def _trouble(self, worker: str, trouble: pb.ClientError) -> None:
        words = " ".join(trouble.message.split())[:MAX_WORDS]
        if trouble.round == 0:
            self._cannot(worker, (BadInput if trouble.bad_input else FederaError)(words))
        elif self.hosts.get(trouble.client) == worker:
            log.warning("worker %s, client %d in round %d: %s", worker, trouble.client, trouble.round, words)
            self._post(Failed(trouble.round, trouble.client, words))
            if self.listener is not None:
                self.listener.failed(worker, trouble.round, trouble.client)

    def _cannot(self, worker: str, why: FederaError) -> None:
        """A worker could not prepare. The run goes on without it where that leaves enough to begin with."""
        log.warning("worker %s cannot take part: %s", worker, why)
        self._unable.add(worker)
        self.ready.discard(worker)
        self._changed()
        more_may_come = self._devices > len(self._hosting)
        if self._board.run.round == 0 and not more_may_come and len(self._hosting - self._unable) < self._enough:
            self._post(type(why)(f"worker {worker}, preparing: {why}"))
        else:
            self._post(Unable(worker, str(why)))

    # ---- who hosts what

    def hosted_by(self, worker: str) -> list[int]:
        return sorted(client for client, host in self.hosts.items() if host == worker)

    def _host(self, names: Sequence[str]) -> None:
        sessions = {name: session for name in names if (session := self._sessions.get(name)) is not None}
        wishes = {
            name: PlacementRequest(clients=tuple(session.hello.clients), own_data=session.hello.own_data)
            for name, session in sessions.items()
        }
        hosts = assign_clients(self._clients, self._devices, wishes, self.hosts)
        keys = {name: session.hello.key for name, session in sessions.items()}
        self._ledger.hosted(keys, {client: host for client, host in hosts.items() if client not in self.hosts})
        self._sessions.bind(keys)
        self.hosts = hosts
        self._hosting = set(hosts.values())

    def _host_late(self, name: str) -> bool:
        """Deal a worker in that comes after the run began, while there are clients without a host."""
        if len(self._hosting) >= self._devices:
            return False
        try:
            self._host([name])
        except BadInput as error:
            log.warning("worker %s takes no part: %s", name, error)
        return name in self._hosting

    def _was_released(self, name: str) -> None:
        self._unreleased.discard(name)
        if not self._unreleased:
            self._all_released.set()
