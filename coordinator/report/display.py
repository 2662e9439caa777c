"""The live display of an experiment: on a terminal it is drawn in place, elsewhere a line a round is printed."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from federa.errors import shown
from federa.numbers import DASH, human_bytes, human_goal, human_seconds, metric_words
from federa.phases import IDLE, TRAIN
from protos.federation_pb2 import Progress, RunProgress, WorkerProgress

_MAX_NOTE = 1_000
_SPARKS = "▁▂▃▄▅▆▇█"


class Display:
    """A context manager; `show` every snapshot."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._printed: tuple[int, int, str] = (0, 0, "")
        self._warned = 0
        self._said: set[str] = set()

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the terminal back."""
        if self._live:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Take in a snapshot."""
        if self._live:
            self._live.update(self.render(progress))
        self._print_news(progress)

    def _print_news(self, progress: Progress) -> None:
        """A lasting line for each finished round; off a terminal also for each stage with something to say.
        A warning, and what is said of a run once, is always a line."""
        run = progress.run
        for warning in progress.warnings[self._warned :]:
            self._console.print(warning, style="yellow", highlight=False, markup=False, emoji=False)
        self._warned = len(progress.warnings)
        for fact in run.facts:
            if fact not in self._said:  # the runs of an experiment have the same data
                self._said.add(fact)
                self._console.print(shown(fact, _MAX_NOTE), highlight=False, markup=False, emoji=False, soft_wrap=True)
        number, rounds, printed = self._printed
        if progress.run_number != number:
            number, rounds, printed = progress.run_number, 0, ""
        for round_ in range(rounds + 1, len(run.values) + 1):
            value = run.values[round_ - 1]
            self._console.print(
                f"{run.method:8} round {round_:3}  {metric_words(run.metric)} {value:.4f} (target {_goal(run)})  "
                f"{human_seconds(run.elapsed_after_s[round_ - 1])}  {human_bytes(run.bytes_after[round_ - 1])} moved",
                highlight=False,
                markup=False,
                emoji=False,
                soft_wrap=True,
            )
        # Before its first run an experiment has no method: it waits in the coordinator's queue.
        text = f"{run.method:8} {run.stage}: {shown(run.note, _MAX_NOTE)}".lstrip() if run.note else ""
        if text and text != printed and not self._live:
            # Names and notes come from other machines: their brackets are no markup.
            self._console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._printed = (number, len(run.values), text or printed)

    def render(self, progress: Progress) -> RenderableType:
        """One frame."""
        run = progress.run
        if not progress.run_number:
            return Text(f"{run.stage}  {shown(run.note, _MAX_NOTE)}".strip())
        title = Text()
        title.append(f"{run.method} ", style="bold")
        title.append(f"run {progress.run_number} of {progress.run_count}", style="dim")
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", min_width=10)
        facts.add_column(min_width=44, overflow="fold")
        facts.add_row("stage", Text(f"{run.stage}  {shown(run.note, _MAX_NOTE)}".rstrip()))
        updates = f", {run.updates} of {run.expected} updates" if run.expected else ""
        facts.add_row("round", f"{run.round} of at most {run.rounds}{updates}")
        facts.add_row(Text(metric_words(run.metric)), _score(run))
        if len(run.values) > 1:
            facts.add_row("so far", _sparkline(list(run.values)[-44:]))
        facts.add_row("time", human_seconds(run.elapsed_s) + " in rounds")
        facts.add_row("bytes", f"{human_bytes(run.bytes_down)} down, {human_bytes(run.bytes_up)} up")
        return Group(title, facts, _workers(progress.workers))


def _goal(run: RunProgress) -> str:
    return human_goal(f"{run.target:g}", run.lower_is_better)


def _score(run: RunProgress) -> RenderableType:
    """How far the run is on the way to its target."""
    value = run.values[-1] if run.values else None
    done = 0.0 if value is None else _share_done(value, run.target, run.lower_is_better)
    bar = ProgressBar(total=1.0, completed=done, width=24, finished_style="green")
    text = Text(DASH if value is None else f"{value:.3f}", style="bold green" if done == 1.0 else "bold")
    row = Table.grid(padding=(0, 1))
    row.add_row(bar, text, f"target {_goal(run)}")
    return row


def _share_done(value: float, target: float, lower: bool) -> float:
    """1 from the target on. Until then the ratio of the two, at least 0, whatever their signs."""
    if value <= target if lower else value >= target > 0:
        return 1.0
    part, whole = (target, value) if lower else (value, target)
    return max(0.0, part / whole) if whole > 0 else 0.0


def _workers(workers: Iterable[WorkerProgress]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("worker", overflow="fold")
    for column in ("doing", ""):
        table.add_column(column, no_wrap=True)
    table.add_column("computes on", overflow="fold")
    for worker in workers:
        busy = worker.phase not in ("", IDLE)
        doing = f"{worker.phase} client {worker.client}" if busy else worker.phase or "joining"
        bar = ProgressBar(total=1.0, completed=worker.progress, width=16) if worker.phase == TRAIN else ""
        table.add_row(Text(shown(worker.name)), Text(doing), bar, Text(shown(worker.device), style="dim"))
    return table


def _sparkline(values: list[float]) -> str:
    """A bar a value: from 0 to 1 for values between them, else from the least to the largest."""
    low, high = (0.0, 1.0) if min(values) >= 0 and max(values) <= 1 else (min(values), max(values))
    steps = len(_SPARKS) / (high - low or 1.0)
    return "".join(_SPARKS[min(len(_SPARKS) - 1, int((value - low) * steps))] for value in values)
