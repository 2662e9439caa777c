"""Federated evaluation: each device counts on what its clients hold out, and the counters are summed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

from coordinator.evaluation.evaluator import EvaluationResult, result_of
from coordinator.evaluation.question import Question
from coordinator.rounds.cohort import Cohort, CountersReport
from coordinator.rounds.collaborators import Part
from coordinator.rounds.failures import Failure, in_words
from coordinator.rounds.throughput import Throughput
from federa.errors import BadInput, FederaError
from federa.tasks.metric import Counters, Metric, overall

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

    @property
    def unable(self) -> Mapping[str, Failure]: ...

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
        self._question: Question | None = None
        self._changed = asyncio.Event()

    async def evaluate(self, round_: int, state_sha256: str, part: Part) -> EvaluationResult:
        """Score a state by the sum over all clients whose host answers in time. Without any example it waits for one,
        unless every client has said that it holds out none. Raises FederaError where none will come."""
        question = Question(round_, part, state_sha256)
        for row in await asyncio.to_thread(self._store.counters, round_, part):
            question.answers[row["client"]] = row["counters"]
        self._question = question
        for worker in sorted(self._clients.ready):
            self.ready(worker)
        try:
            while (awaited := self._awaited(question)) or not self._is_enough(question):
                if not awaited and self._is_hopeless(question):
                    if not self._ask_again(question):
                        raise self._failure(question)
                    continue
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
        for client in clients:
            question.failed.pop(client, None)
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
                self.failed(worker, report.round, client, Failure(objection))
            return
        question.answers[client] = report.counters
        self._store.counted(
            round_=report.round, part=report.part, client=client, device=worker, counters=report.counters
        )
        self._changed.set()

    def failed(self, worker: str, round_: int, client: int, why: Failure) -> None:
        """Wait no more for a client whose host cannot do what it was asked."""
        question = self._question
        if question is not None and round_ == question.round and client not in question.answers:
            question.failed[client] = why
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

    def _awaited(self, question: Question) -> list[str]:
        """Hosts that are asked and may still answer."""
        awaited = []
        for worker in self._clients.able:
            if not set(self._clients.hosted_by(worker)) - question.answers.keys() - question.failed.keys():
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

    def _left_s(self, question: Question, worker: str) -> float | None:
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

    def _patience_s(self, question: Question, awaited: list[str]) -> float | None:
        left = [seconds for worker in awaited if (seconds := self._left_s(question, worker)) is not None]
        return max(0.0, min(left)) if left else None

    def _is_enough(self, question: Question) -> bool:
        return question.sum["examples"] > 0 or len(question.answers) == self._clients.count

    # ---- failures that do not go away

    def _failures(self, question: Question) -> dict[int, Failure]:
        return question.failures(self._clients.unable, self._clients.hosts)

    def _is_hopeless(self, question: Question) -> bool:
        """Whether no client counts because they fail, none of the failures passes by itself, and no device is away that
        could do better. One that has never been here could, unless all that are have failed in the same way."""
        failures, clients = self._failures(question), self._clients
        if not failures or any(why.is_passing for why in failures.values()):
            return False
        if any(clients.away_s(worker) is not None for worker in clients.able):
            return False
        in_the_same_way = not question.answers and len({why.kind for why in failures.values()}) == 1
        return in_the_same_way or len(clients.hosts) == clients.count

    def _ask_again(self, question: Question) -> bool:
        """Ask those that failed once more, unless they were or what failed is the user's to mend."""
        if question.asked_again or not question.failed or any(why.bad_input for why in question.failed.values()):
            return False
        question.asked_again = True
        for worker in sorted(self._clients.ready):
            self.ready(worker)
        return True

    def _failure(self, question: Question) -> FederaError:
        failures = self._failures(question)
        is_bad_input = all(why.bad_input for why in failures.values())
        return (BadInput if is_bad_input else FederaError)(
            f"round {question.round}: the {question.part} part cannot be scored, and nobody is left who could: "
            f"{in_words(failures, self._clients.hosts)}; mend that and start again with the same --out"
        )

    def _show(self, question: Question, awaited: list[str]) -> None:
        stage = "evaluating" if question.part == "validation" else "testing"
        note = f"{len(question.answers)} of {self._clients.count} clients have counted"
        if awaited:
            note += f"; waiting for {', '.join(awaited)}"
        else:
            note += f"; no example of the {question.part} part so far: waiting for a device that has some"
            failures = self._failures(question)
            note += f"; {in_words(failures, self._clients.hosts)}" if failures else ""
            log.warning("round %d: %s", question.round, note)
        self._progress.stage(stage, note)


def _named(counters: Counters) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in sorted(overall(counters).items()))
