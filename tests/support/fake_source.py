"""A power source without a sensor."""

from __future__ import annotations

import threading
import time

from edge.power.source import Reading


class FakeSource:
    """No sensor: a constant of 5 W, read now; or what `script` returns."""

    name, scope, detail = "fake", "module", "no sensor at all"

    def __init__(self, script=None):
        self.calls = []
        self.threads = set()
        self.problems = []
        self._script = script or (lambda: [Reading(at_s=time.monotonic(), total_mw=5000.0)])

    def readings(self):
        self.calls.append(time.monotonic())
        self.threads.add(threading.current_thread().name)
        return self._script()

    def problem(self):
        return self.problems[min(len(self.calls), len(self.problems)) - 1] if self.problems else None

    def close(self):
        pass
