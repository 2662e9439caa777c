"""The states of a run's rounds: what is broadcast, and what becomes of a round's updates."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.rounds.collaborators import AcceptedUpdate
from coordinator.storage.broadcast import Broadcast, make_broadcast
from coordinator.storage.run_folder import RunFolder
from coordinator.threads import in_thread
from federa.aggregation.base import Aggregate, AggregateFiles, Aggregator, RoundUpdates, Update
from federa.memory import return_freed


class RunStates:
    """A RoundStates (coordinator.rounds.collaborators) in a run's folder. `start` is the digest of the state that the
    run began with, `state` of what it has learned so far, and `server_state` of what the aggregator remembers beside
    it, if anything."""

    def __init__(self, folder: RunFolder, aggregator: Aggregator, *, wire: str, seed: int, start: str) -> None:
        self.start = self.state = start
        self.server_state: str | None = None
        self.broadcast: Broadcast | None = None
        self._aggregator = aggregator
        self._folder = folder
        self._wire = wire
        self._seed = seed
        self._broadcast_of = 0  # its round

    def resume(self, state: str, server_state: str | None, round_: int, broadcast_sha256: str | None) -> None:
        """Take over from an earlier process: the states, and the broadcast of the round that it left open, if any."""
        self.state, self.server_state = state, server_state
        if broadcast_sha256 is not None:
            self.broadcast = Broadcast(self._folder, broadcast_sha256, self.start)
            self._broadcast_of = round_

    @property
    def broadcast_sha256(self) -> str:
        """The digest of what the devices may download beside the start."""
        return self.broadcast.sha256 if self.broadcast is not None else self.start

    async def make_broadcast(self, round_: int) -> str:
        """Make what goes down in a round from the state, once: the devices may have had it before, to evaluate it."""
        if self._broadcast_of != round_:
            self.broadcast = await in_thread(
                make_broadcast,
                self._folder,
                wire=self._wire,
                round_=round_,
                state=self.state,
                start=self.start,
                seed=self._seed,
            )
            self._broadcast_of = round_
        return self.broadcast_sha256

    async def aggregate(self, round_: int, updates: Sequence[AcceptedUpdate]) -> Aggregate:
        """Make the next state of a round's updates and its broadcast, durable when this returns."""
        assert self.broadcast is not None, "a round that is aggregated was broadcast"
        made = await in_thread(self._aggregate, round_, updates, self.broadcast)
        self.state, self.server_state = made.state, made.server_state
        return made

    async def tidy(self, round_: int) -> None:
        """Remove every state and update that the next round does not need. The start stays: a worker that joins late
        forms W_res from it."""
        kept = {self.start, self.state, self.server_state or self.start}
        await in_thread(self._folder.tidy, states=kept, updates=set(), round_=round_)

    def _aggregate(self, round_: int, accepted: Sequence[AcceptedUpdate], broadcast: Broadcast) -> Aggregate:
        updates = [
            Update(path=self._folder.update(round_, update.client, update.sha256), examples=update.examples)
            for update in accepted
        ]
        folder = self._folder
        before = folder.state(self.server_state) if self.server_state else None
        files = AggregateFiles(state=folder.fresh_state(), server_state=folder.fresh_server_state(), before=before)
        made = self._aggregator.aggregate(RoundUpdates(updates, broadcast.base), files)
        if made.server_state is not None:
            folder.name_state(files.server_state, made.server_state)
        folder.name_state(files.state, made.state)
        return_freed()
        return made
