"""A federation around the state machine of the rounds, without a network or a clock: its workers answer in an order
that a test draws, and how each training ends is decided by the test alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from coordinator.rounds.events import (
    Accepted,
    Announce,
    Close,
    Deadline,
    Decision,
    Evaluated,
    Failed,
    Finish,
    GiveUp,
    Joined,
    Left,
    Pause,
    Plan,
    Refused,
    Select,
)
from coordinator.rounds.failures import Failure
from coordinator.rounds.state_machine import RoundStateMachine

Ending = Literal["accepted", "failed", "refused"]
MAX_PAUSES = 6
"""In a row, with every worker here: then the run waits for a worker that does not come."""


class WholeRun:
    """One run. `ending(round, client, turn)` says how a client's training ends, the first (0) or a later time that it
    is drawn in a round; `pick(n)` chooses among n. A run that pauses is joined by `late` workers first, and by one
    that is here already after that.

    `log` holds the draws, the closes and the end, each once, in order.
    """

    def __init__(
        self,
        plan: Plan,
        workers: Mapping[str, Sequence[int]],
        *,
        pick: Callable[[int], int],
        ending: Callable[[int, int, int], Ending] = lambda *_: "accepted",
        late: Mapping[str, Sequence[int]] | None = None,
        values: Sequence[float] = (),
    ) -> None:
        self.plan = plan
        self.machine = RoundStateMachine(plan)
        self.workers = {name: tuple(clients) for name, clients in workers.items()}
        self.log: list[Decision] = []
        self.finish: Finish | None = None
        self.stuck = False
        self._late = {name: tuple(clients) for name, clients in (late or {}).items()}
        self._pick, self._ending, self._values = pick, ending, values
        self._pauses = 0
        self._turns: dict[tuple[int, int], int] = {}
        self._asked: set[tuple[int, int]] = set()
        self._closed: int | None = None

    def run(self, restless: bool = False, most: int = 2000) -> WholeRun:
        """To its end. `restless` workers leave and come back, and deadlines fall, again and again."""
        for name in self._in_some_order(self.workers):
            self.happened(Joined(name, self.workers[name]))
        for _ in range(most):
            if self.finish is not None or self.stuck:
                return self
            self.step(restless)
        raise AssertionError(f"no end after {most} events: round {self.machine.round}, {self.machine.awaited} awaited")

    def step(self, restless: bool = False) -> None:
        """The next thing that happens."""
        if restless and self._pick(3) == 0:
            name = sorted(self.workers)[self._pick(len(self.workers))]
            self.happened(Left(name))
            self.happened(Joined(name, self.workers[name]))
        elif restless and self.plan.timed and self._pick(3) == 0:
            self.happened(Deadline(self.machine.round, self.machine.attempt))
        elif self._asked:
            asked = sorted(self._asked)
            self.answer(*asked[self._pick(len(asked))])
        elif self._closed is not None:
            value = self._values[self._closed - 1] if self._closed <= len(self._values) else 0.0
            self.evaluated(value)
        else:
            raise AssertionError(f"round {self.machine.round} waits for nothing: {self.machine.awaited} are awaited")

    def answer(self, round_: int, client: int) -> None:
        """A client that was asked has trained."""
        self._asked.discard((round_, client))
        if not self.machine.takes(round_, client):
            return
        turn = self._turns.get((round_, client), 1) - 1
        ending = self._ending(round_, client, turn)
        happened: dict[str, Any] = {"accepted": Accepted, "failed": _failed, "refused": _refused}
        self.happened(happened[ending](round_, client))

    def evaluated(self, value: float) -> None:
        assert self._closed is not None
        round_, self._closed = self._closed, None
        self.happened(Evaluated(round_, value))

    def happened(self, event: Any) -> None:
        self.decided(self.machine.apply(event))

    def decided(self, decisions: Sequence[Decision]) -> None:
        """Carry decisions out."""
        for decision in decisions:
            match decision:
                case Select(round_, _, clients):
                    self._pauses = 0
                    if decision not in self.log:
                        self.log.append(decision)
                        for client in clients:
                            self._turns[round_, client] = self._turns.get((round_, client), 0) + 1
                case Announce(round_, _, clients):
                    self._asked.update((round_, client) for client in clients)
                case Close(round_):
                    self._asked.clear()
                    self._closed = round_
                    if decision not in self.log:
                        self.log.append(decision)
                case Pause():
                    self._resume()
                case GiveUp():
                    self.stuck = True
                case Finish():
                    self.finish = decision
                    self.log.append(decision)

    def restart(self, machine: RoundStateMachine, decisions: Sequence[Decision]) -> None:
        """The coordinator died and another took over: what was under way is asked for again, of everybody."""
        self.machine = machine
        self._asked.clear()
        self._closed = None
        self.decided(decisions)
        for name in self._in_some_order(self.workers):
            self.happened(Joined(name, self.workers[name]))

    def _resume(self) -> None:
        self._pauses += 1
        if self._late:
            name, clients = sorted(self._late.items())[0]
            del self._late[name]
            self.workers[name] = clients
            self.happened(Joined(name, clients))
        elif self._pauses > MAX_PAUSES:
            self.stuck = True
        else:
            name = min(self.workers)
            self.happened(Joined(name, self.workers[name]))

    def _in_some_order(self, names: Mapping[str, object]) -> list[str]:
        left, order = sorted(names), []
        while left:
            order.append(left.pop(self._pick(len(left))))
        return order


def _failed(round_: int, client: int) -> Failed:
    """For a reason that may go away: a later turn may end otherwise."""
    return Failed(round_, client, Failure("the link is cut", is_passing=True))


def _refused(round_: int, client: int) -> Refused:
    """For a reason of its own: not all clients do the same wrong."""
    return Refused(round_, client, f"client {'i' * (client + 1)} sends nonsense")
