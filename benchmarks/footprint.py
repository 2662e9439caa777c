"""A process's anonymous memory and processor time, sampled while it runs. Linux."""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

INTERVAL_S = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemorySample:
    """`at` is time.monotonic(); `cpu_s` is user and system time since the process began."""

    at: float
    anonymous_bytes: int
    cpu_s: float


def sample(pid: int) -> MemorySample:
    """How it stands now. Raises ProcessLookupError when there is no such process any more."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        # The name may hold anything, also spaces and parentheses: the fields begin behind the last one.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:  # it has ended and nobody has waited for it yet
        raise ProcessLookupError(pid)
    return MemorySample(
        at=time.monotonic(),
        anonymous_bytes=int(found[1]) * 1024,
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS,
    )


class Footprint:
    """Samples a process every 50 ms until it ends or `stop`. A peak between two samples is missed."""

    def __init__(self, pid: int) -> None:
        self.samples = [sample(pid)]
        self._pid = pid
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more samples after this."""
        self._stopped.set()
        self._thread.join()

    @property
    def start_bytes(self) -> int:
        """Anonymous memory when it was first looked at."""
        return self.samples[0].anonymous_bytes

    def peak_bytes(self, since: float = 0.0) -> int:
        """The most anonymous memory that was seen, from a time of time.monotonic() on."""
        return max((seen.anonymous_bytes for seen in self.samples if seen.at >= since), default=0)

    def cpu_s(self, begin: float, end: float) -> float:
        """Processor seconds between two times of time.monotonic(), interpolated."""
        at, spent = [seen.at for seen in self.samples], [seen.cpu_s for seen in self.samples]
        return float(np.interp(end, at, spent) - np.interp(begin, at, spent))

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            try:
                self.samples.append(sample(self._pid))
            except ProcessLookupError:
                return
