"""Federated evaluation: each device counts on what its clients hold out, and the counters are summed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from coordinator.evaluation.evaluator import EvaluationResult, result_of
from coordinator.rounds.cohort import Cohort, CountersReport
from coordinator.rounds.collaborators import Part
from coordinator.rounds.throughput import Throughput
from federa.tasks.metric import Counters, Metric, total

log = logging.getLogger("federa.coordinator")

PATIENCE_S = 30.0
"""A host that has left is waited for so long, from when it did or from when this coordinator began; then its clients
are left out of the sum."""


class EvaluationClients(Protocol):
    """Who hosts which client, and who is here: the client registry is the owner of both."""

    @property
    def count(self) -> int:
        """How many clients the experiment has, hosted or not."""
        ...

    @property
    def hosts(self) -> Mapping[int, str]: ...

    @property
    def examples(self) -> Mapping[int, int]: ...

    @property
    def ready(self) -> Collection[str]: ...

    @property
    def able(self) -> Sequence[str]: ...

    def hosted_by(self, worker: str) -> Sequence[int]: ...

    def away_s(self, worker: str) -> float | None: ...


class CounterStore(Protocol):
    """Where counters are recorded (coordinator.storage.ledger)."""

    def counters(self, round_: int, part: str) -> list[dict[str, Any]]:
        """What was recorded of a round's part, by client: client and counters. May take a while."""
        ...

    def counted(self, *, round_: int, part: str, client: int, device: str, counters: Mapping[str, float]) -> None:
        """Record a client's. Returns at once."""
        ...


class StageProgress(Protocol):
    """Where it is shown what a run waits for."""

    def stage(self, stage: str, note: str = "") -> None: ...


@dataclass(slots=True)
class _Question:
    """One state and part that the devices are asked to count on, and what came of it."""

    round: int
    part: Part
    state: str
    answers: dict[int, Counters] = field(default_factory=dict)
    """Each client's counters so far."""
    failed: set[int] = field(default_factory=set)
    """Clients that could not be counted on, until their host says anew that it is ready."""
    asked_s: dict[str, float] = field(default_factory=dict)
    """When each host was asked, at first: one that keeps dying on it gains no time."""
    left_out: set[str] = field(default_factory=set)

    @property
    def sum(self) -> Counters:
        """What all have counted, added in the order of the clients: who answered first changes nothing."""
        return total(self.answers[client] for client in sorted(self.answers))


class FederatedEvaluator:
    """An Evaluator that asks the cohort, and receives the workers' comings, failures and counters. What was counted
    is in the ledger: after a restart nobody is asked for it again.

    `deadline_s` is the rounds': a host may take that long from when it was asked, with auto twice what it is expected
    to train for, but PATIENCE_S at least; without one it may take for ever. `check` says what is wrong with a client's
    counters (the task's), "" for nothing."""

    def __init__(
        self,
        *,
        cohort: Cohort,
        clients: EvaluationClients,
        store: CounterStore,
        progress: StageProgress,
        throughput: Throughput,
        metric: Metric,
        check: Callable[[Counters], str],
        deadline_s: Literal["auto"] | float | None = None,
    ) -> None:
        self._cohort = cohort
        self._clients = clients
        self._store = store
        self._progress = progress
        self._throughput = throughput
        self._metric = metric
        self._check = check
        self._deadline_s = deadline_s
        self._question: _Question | None = None
        self._changed = asyncio.Event()

    async def evaluate(self, round_: int, state_sha256: str, part: Part) -> EvaluationResult:
        """Score a state by the sum over all clients whose host answers in time. Without any example it waits for one,
        unless every client has said that it holds out none."""
        question = _Question(round_, part, state_sha256)
        for row in await asyncio.to_thread(self._store.counters, round_, part):
            question.answers[row["client"]] = row["counters"]
        self._question = question
        for worker in sorted(self._clients.ready):
            self.ready(worker)
        try:
            while (awaited := self._awaited(question)) or not self._is_enough(question):
                self._show(question, awaited)
                self._changed.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), self._patience_s(question, awaited))
        finally:
            self._question = None
        return result_of(self._metric, question.sum)

    # ---- what the workers report

    def ready(self, worker: str) -> None:
        """Ask a worker that is prepared, on a new stream perhaps, for what it has not counted yet."""
        question = self._question
        if question is None:
            return
        clients = [client for client in self._clients.hosted_by(worker) if client not in question.answers]
        question.failed.difference_update(clients)
        if clients:
            question.asked_s.setdefault(worker, time.monotonic())
            self._cohort.evaluate(question.round, question.part, worker, clients, question.state)
        self._changed.set()

    def presence_changed(self) -> None:
        """Look again who is waited for: somebody left or cannot take part."""
        self._changed.set()

    def receive(self, worker: str, report: CountersReport, max_examples: int) -> None:
        """Take in what a worker counted on a client that can hold out so many examples. What cannot be is left, and
        logged."""
        question, client = self._question, report.client
        known = question.answers.get(client) if question is not None else None
        if known == report.counters and self._clients.hosts.get(client) == worker:
            return  # a worker repeats what may have been lost on the way
        objection = self._objection(worker, report, max_examples)
        if objection or question is None:
            name = f"counts of client {client} for round {report.round}, {report.part[:20]!r}"
            log.warning("worker %s: %s are left: %s", worker, name, objection)
            hosted = self._clients.hosts.get(client) == worker
            if hosted and question is not None and (report.round, report.part) == (question.round, question.part):
                # Its host has answered, and would not do so again: training that diverged counts to infinity.
                self.failed(worker, report.round, client)
            return
        question.answers[client] = report.counters
        self._store.counted(
            round_=report.round, part=report.part, client=client, device=worker, counters=report.counters
        )
        self._changed.set()

    def failed(self, worker: str, round_: int, client: int) -> None:
        """Wait no more for a client whose host cannot do what it was asked."""
        question = self._question
        if question is not None and round_ == question.round and client not in question.answers:
            question.failed.add(client)
            self._changed.set()

    def _objection(self, worker: str, report: CountersReport, max_examples: int) -> str:
        question = self._question
        if self._clients.hosts.get(report.client) != worker:
            return "it does not host that client"
        if question is None or (report.round, report.part) != (question.round, question.part):
            return "nobody asks for them now"
        if report.client in question.answers:
            return f"{_named(question.answers[report.client])} were counted before"
        objection = self._check(report.counters)
        if not objection and report.counters["examples"] > max_examples:
            return f"{report.counters['examples']:g} examples, when it can hold out {max_examples} at most"
        return objection

    # ---- whom it waits for

    def _awaited(self, question: _Question) -> list[str]:
        """Hosts that are asked and may still answer."""
        awaited = []
        for worker in self._clients.able:
            if not set(self._clients.hosted_by(worker)) - question.answers.keys() - question.failed:
                continue
            left_s = self._left_s(question, worker)
            if left_s is None or left_s > 0:
                awaited.append(worker)
            elif worker not in question.left_out:
                question.left_out.add(worker)
                why = "is away" if self._clients.away_s(worker) is not None else "takes longer than its deadline"
                log.warning(
                    "round %d: worker %s %s, and is left out of the %s", question.round, worker, why, question.part
                )
        return awaited

    def _left_s(self, question: _Question, worker: str) -> float | None:
        """How many seconds a host is still waited for; None: until it answers or leaves."""
        left = []
        if (away_s := self._clients.away_s(worker)) is not None:
            left.append(PATIENCE_S - away_s)
        asked_s, may_take_s = question.asked_s.get(worker), self._may_take_s(worker)
        if asked_s is not None and may_take_s is not None:
            left.append(asked_s + may_take_s - time.monotonic())
        return min(left, default=None)

    def _may_take_s(self, worker: str) -> float | None:
        if self._deadline_s != "auto":
            return self._deadline_s
        work = sum(self._clients.examples.get(client, 0) for client in self._clients.hosted_by(worker))
        expected_s = self._throughput.deadline_s({worker: work})
        return None if expected_s is None else max(PATIENCE_S, expected_s)

    def _patience_s(self, question: _Question, awaited: list[str]) -> float | None:
        left = [seconds for worker in awaited if (seconds := self._left_s(question, worker)) is not None]
        return max(0.0, min(left)) if left else None

    def _is_enough(self, question: _Question) -> bool:
        return question.sum["examples"] > 0 or len(question.answers) == self._clients.count

    def _show(self, question: _Question, awaited: list[str]) -> None:
        stage = "evaluating" if question.part == "validation" else "testing"
        note = f"{len(question.answers)} of {self._clients.count} clients have counted"
        if awaited:
            note += f"; waiting for {', '.join(awaited)}"
        else:
            note += f"; no example of the {question.part} part so far: waiting for a device that has some"
            log.warning("round %d: %s", question.round, note)
        self._progress.stage(stage, note)


def _named(counters: Counters) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in sorted(counters.items()))
