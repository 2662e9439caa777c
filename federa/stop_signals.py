"""Ctrl-C and SIGTERM of a command whose event loop runs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from federa.command import end_at_once
from federa.errors import EXIT_INTERRUPTED

SAME_S = 0.2
"""Signals that come so soon after the first are the same one: a terminal sends it to a whole group of processes, and
some of them pass it on."""


class StopSignals:
    """The first signal calls `stop`, which ends in order what is under way. A later one does not wait for that: it
    calls `abort`, and ends the process. `code` is the exit code that the signals ask for, once one came."""

    def __init__(
        self, stop: Callable[[], object], *, terminated: int, abort: Callable[[], object] = lambda: None
    ) -> None:
        """Take the signals over, for as long as the running loop lives. SIGTERM asks for the code `terminated`."""
        self.code: int | None = None
        self._stop = stop
        self._abort = abort
        self._loop = asyncio.get_running_loop()
        self._began_s = 0.0
        self._loop.add_signal_handler(signal.SIGINT, self._come, EXIT_INTERRUPTED)
        self._loop.add_signal_handler(signal.SIGTERM, self._come, terminated)

    def _come(self, code: int) -> None:
        if self.code is None:
            self.code, self._began_s = code, self._loop.time()
            self._stop()
            return
        self.code = max(code, self.code)
        if self._loop.time() - self._began_s > SAME_S:
            self._abort()
            end_at_once(self.code)
