"""A tegrastats log, given again at its pace as if it were measured now. It stands for a board on a machine without
sensors, and is named so wherever one of its figures is shown."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from edge.power.rails import SCOPES, total_of
from edge.power.source import Reading
from edge.power.tegrastats import reading_of
from edge.power.tegrastats_file import TegrastatsFile
from edge.power.tegrastats_line import parse_plain
from federa.energy import INTERVAL_ASSUMED
from federa.errors import BadInput, one_line
from federa.regular_file import open_regular

MAX_BYTES = 256_000_000
"""The longest log that is replayed, which is held in memory: a week of one line a second."""
# A step longer than this, or back, is a clock that was set.
_JUMP_S = 3600.0
# One call gives no more than this: after a long sleep the older ones are left out.
_AT_ONCE = 10_000


class Replay:
    """Readings of a log, in a loop. Raises BadInput for a log that holds no total power."""

    def __init__(self, path: Path, *, board: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`board` decides the total; None judges by the rails alone."""
        self._board, self._clock = board, clock
        self._times_s: array[float] = array("d")
        """Seconds of each line since the first."""
        self._lines: list[str] = []
        log = self._read(path)
        self.name = f"replay of {path.name}"
        assumed = f", {INTERVAL_ASSUMED} ({1000 * log.interval_s:g} ms)" if log.is_assumed else ""
        self.detail = f"{path.name}: {len(self._lines)} lines, {self._cycle_s:.0f} s, in a loop{assumed}"
        self._began_s = clock()
        self._next = 0
        """Lines given so far, over all loops."""

    def _read(self, path: Path) -> TegrastatsFile:
        """Reads the log, and finds its scope."""
        scopes: set[str] = set()
        refused: set[str] = set()
        why_not, jumped = "", False
        try:
            with open_regular(path, most_bytes=MAX_BYTES) as file:
                log = TegrastatsFile(file, longest_step_s=_JUMP_S)
                for sample in log.samples():
                    self._times_s.append(sample.t_s)
                    self._lines.append(sample.text)
                    jumped |= not sample.follows
                    total = total_of(sample.read.rails_mw, self._board, None, sample.read.twice, sample.read.unread)
                    scopes.update([total.scope] if total.scope else [])
                    refused.update([total.refused] if total.refused else [])
                    why_not = why_not or total.warning or ""
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
            raise BadInput(f"--power: cannot read replay:{path}: {reason}") from None
        if mixed := log.sources.mixed(forward=log.time_from != "interval" and not jumped):
            raise BadInput(f"--power: replay:{path}: {mixed}; a replay is of one device's lines")
        # A line that lost a rail may have a narrower one.
        self.scope: str | None = min(scopes - refused, key=SCOPES.index, default=None)
        if self.scope is None:
            for_board = f" for the board {self._board!r}" if self._board else ""
            why = f": {why_not}" if why_not else ""
            raise BadInput(f"--power: replay:{path} holds no line of tegrastats with a total power{for_board}{why}")
        self._cycle_s = self._times_s[-1] + log.interval_s
        return log

    def readings(self) -> list[Reading]:
        now_s = self._clock()
        count = len(self._lines)
        loops, into_s = divmod(now_s - self._began_s, self._cycle_s)
        due = int(loops) * count + bisect_right(self._times_s, into_s)
        found = []
        for place in range(max(self._next, due - _AT_ONCE), due):
            loop, index = divmod(place, count)
            line = parse_plain(self._lines[index])
            if line is None:
                continue
            at_s = self._began_s + loop * self._cycle_s + self._times_s[index]
            found.append(reading_of(line, at_s, self._board, self.scope)[0])
        self._next = max(self._next, due)
        return found

    def problem(self) -> str | None:
        return None

    def close(self) -> None:
        """Nothing is open."""


def check(path: Path, board: str | None = None) -> None:
    """Raises BadInput where `Replay` would."""
    Replay(path, board=board)
