"""What the devices say of a state: each is asked to count on what its clients hold out, and the counts are summed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import Literal

from coordinator.clients.registry import ClientRegistry
from coordinator.evaluation.evaluator import EvaluationResult, result_of
from coordinator.evaluation.reference_model import Part
from coordinator.progress import ProgressBoard
from coordinator.rounds.throughput import Throughput
from coordinator.storage.ledger import Ledger
from federa.tasks.base import Task
from federa.tasks.metric import Metric, total
from protos import federation_pb2 as pb

log = logging.getLogger("federa.coordinator")

PATIENCE_S = 30.0
"""A host that has left is waited for so long, from when it did or from when this coordinator began; then its clients
are left out of the sum."""


@dataclass(slots=True)
class _Poll:
    """One question: what clients have answered, and which cannot."""

    round: int
    part: Part
    state: str
    counters: dict[int, dict[str, float]] = field(default_factory=dict)
    unable: set[int] = field(default_factory=set)
    asked: dict[str, float] = field(default_factory=dict)
    """When each host was asked, at first: one that keeps dying on it gains no time."""
    left_out: set[str] = field(default_factory=set)

    @property
    def sum(self) -> dict[str, float]:
        """Of what the clients counted, in their order: who answered first changes nothing."""
        return total(self.counters[client] for client in sorted(self.counters))


class FederatedEvaluator:
    """A Judge, which hears of the workers from the crew. What was counted is in the ledger: after a restart nobody is
    asked for it again. `deadline_s` is the rounds': a host may take that long from when it was asked, with auto twice
    what it is expected to train for, but PATIENCE_S at least; without one it may take for ever."""

    def __init__(
        self,
        crew: ClientRegistry,
        ledger: Ledger,
        board: ProgressBoard,
        *,
        task: Task,
        metric: Metric,
        deadline_s: Literal["auto"] | float | None = None,
    ) -> None:
        self._crew = crew
        self._task = task
        self._metric = metric
        self._ledger = ledger
        self._board = board
        self._deadline_s = deadline_s
        self._pace = Throughput()
        self._poll: _Poll | None = None
        self._changed = asyncio.Event()
        crew.listener = self

    async def judge(self, round_: int, state: str, part: Part) -> EvaluationResult:
        """The sum over all clients whose host answers in time. Without any example it waits for one, unless every
        client has said that it holds out none."""
        self._pace = Throughput(self._ledger.paces())
        self._poll = poll = _Poll(round_, part, state)
        for row in self._ledger.counters(round_, part):
            poll.counters[row["client"]] = row["counters"]
        for worker in sorted(self._crew.ready):
            self.ready(worker)
        try:
            while (awaited := self._awaited(poll)) or not self._is_enough(poll):
                self._show(poll, awaited)
                self._changed.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), self._patience_s(poll, awaited))
        finally:
            self._poll = None
        return result_of(self._metric, poll.sum)

    # ---- from the crew

    def ready(self, worker: str) -> None:
        """It is prepared, on a new stream perhaps: ask it for what it has not counted yet."""
        poll = self._poll
        if poll is None:
            return
        clients = [client for client in self._crew.hosted_by(worker) if client not in poll.counters]
        poll.unable.difference_update(clients)
        if clients:
            poll.asked.setdefault(worker, time.monotonic())
            order = pb.Evaluate(round=poll.round, part=poll.part, state_sha256=bytes.fromhex(poll.state))
            self._crew.evaluate(worker, order, clients)

    def changed(self) -> None:
        """Somebody came, left or cannot take part."""
        self._changed.set()

    def counted(self, worker: str, said: pb.Counters, most: int) -> None:
        """What a client's host counted, of `most` examples at most. What cannot be is left, and logged."""
        counters = dict(said.counters)
        known = self._poll.counters.get(said.client) if self._poll is not None else None
        if known == counters and self._crew.hosts.get(said.client) == worker:
            return  # a worker repeats what may have been lost on the way
        objection = self._objection(worker, said, most)
        if objection or self._poll is None:
            name = f"counts of client {said.client} for round {said.round}, {said.part[:20]!r}"
            log.warning("worker %s: %s are left: %s", worker, name, objection)
            return
        self._poll.counters[said.client] = counters
        self._ledger.counted(round_=said.round, part=said.part, client=said.client, device=worker, counters=counters)
        self.changed()

    def failed(self, worker: str, round_: int, client: int) -> None:
        """A client's host cannot do what it was asked."""
        if self._poll is not None and round_ == self._poll.round and client not in self._poll.counters:
            self._poll.unable.add(client)
            self.changed()

    # ---- whom it waits for

    def _objection(self, worker: str, said: pb.Counters, most: int) -> str:
        poll = self._poll
        if self._crew.hosts.get(said.client) != worker:
            return "it does not host that client"
        if poll is None or (said.round, said.part) != (poll.round, poll.part):
            return "nobody asks for them now"
        if said.client in poll.counters:
            shown = ", ".join(f"{name} {value:g}" for name, value in sorted(poll.counters[said.client].items()))
            return f"{shown} were counted before"
        objection = self._task.check(dict(said.counters))
        if not objection and said.counters["examples"] > most:
            return f"{said.counters['examples']:g} examples, when it can hold out {most} at most"
        return objection

    def _awaited(self, poll: _Poll) -> list[str]:
        """Hosts that are asked and may still answer."""
        awaited = []
        for worker in self._crew.able:
            if not set(self._crew.hosted_by(worker)) - poll.counters.keys() - poll.unable:
                continue
            left_s = self._left_s(poll, worker)
            if left_s is None or left_s > 0:
                awaited.append(worker)
            elif worker not in poll.left_out:
                poll.left_out.add(worker)
                why = "is away" if self._crew.away_s(worker) is not None else "takes longer than its deadline"
                log.warning("round %d: worker %s %s, and is left out of the %s", poll.round, worker, why, poll.part)
        return awaited

    def _left_s(self, poll: _Poll, worker: str) -> float | None:
        """For how long a host is still waited for; None: until it answers or leaves."""
        left = []
        if (away_s := self._crew.away_s(worker)) is not None:
            left.append(PATIENCE_S - away_s)
        if (asked := poll.asked.get(worker)) is not None and (may_take_s := self._may_take_s(worker)) is not None:
            left.append(asked + may_take_s - time.monotonic())
        return min(left, default=None)

    def _may_take_s(self, worker: str) -> float | None:
        if self._deadline_s != "auto":
            return self._deadline_s
        work = sum(self._crew.examples.get(client, 0) for client in self._crew.hosted_by(worker))
        expected_s = self._pace.deadline_s({worker: work})
        return None if expected_s is None else max(PATIENCE_S, expected_s)

    def _patience_s(self, poll: _Poll, awaited: list[str]) -> float | None:
        left = [seconds for worker in awaited if (seconds := self._left_s(poll, worker)) is not None]
        return max(0.0, min(left)) if left else None

    def _is_enough(self, poll: _Poll) -> bool:
        return poll.sum["examples"] > 0 or len(poll.counters) == self._crew.clients

    def _show(self, poll: _Poll, awaited: list[str]) -> None:
        stage = "evaluating" if poll.part == "validation" else "testing"
        note = f"{len(poll.counters)} of {self._crew.clients} clients have counted"
        if awaited:
            note += f"; waiting for {', '.join(awaited)}"
        else:
            note += f"; no example of the {poll.part} part so far: waiting for a device that has some"
            log.warning("round %d: %s", poll.round, note)
        self._board.stage(stage, note)
