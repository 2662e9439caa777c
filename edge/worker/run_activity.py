"""What this worker does in a run: on its time line, and in its reports."""

from __future__ import annotations

from edge.power.timeline import Timeline
from edge.worker.reports import Reports
from federa.phases import EVALUATE, IDLE

Stage = tuple[int, str]
"""A round, and what is waited for in it."""


class RunActivity:
    """`enter` a phase of the order under way; `rest` where there is nothing to do."""

    def __init__(self, timeline: Timeline, reports: Reports) -> None:
        self.round = 0
        """That of the order under way, or of the last one."""
        self._timeline = timeline
        self._reports = reports
        self._awaited: Stage = (0, IDLE)  # as the coordinator said last

    def enter(self, client: int, phase: str, at_s: float | None = None) -> None:
        """A phase begins, now or at a moment that has just been."""
        self._timeline.enter(self.round, client, phase, at_s)
        self._reports.activity(self.round, client, phase)

    def progress(self, client: int, phase: str, progress: float) -> None:
        """The phase under way has come so far, of 1."""
        self._reports.activity(self.round, client, phase, progress)

    def rest(self) -> None:
        """Nothing to do: the round goes on elsewhere, or its state is evaluated."""
        round_, phase = max(self._awaited, (self.round, IDLE), key=_order_of)
        self._timeline.enter(round_, 0, phase)

    def report_idle(self, client: int) -> None:
        """Report that the order that ended with this client is done."""
        self._reports.activity(self.round, client, IDLE)

    def wait_for(self, round_: int, phase: str) -> None:
        """What is waited for when there is nothing to do. A message of an earlier stream may come late."""
        self._awaited = max(self._awaited, (round_, phase), key=_order_of)
        now = self._timeline.activity
        if now is not None and now.phase in (IDLE, EVALUATE):
            self.rest()


def _order_of(stage: Stage) -> tuple[int, bool]:
    """What is waited for first: a round's clients, then its evaluation, then the next round's clients."""
    return stage[0], stage[1] == EVALUATE
