"""tegrastats as a child process of this one.

Its own child, ended by its pid: `tegrastats --stop` would end somebody else's. A child that dies, falls silent or
floods is ended and started again after a pause that doubles; meanwhile there are no readings, and so a gap.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path

from edge.power.rails import total_of
from edge.power.source import Reading
from edge.power.tegrastats_line import Line, parse_line
from federa.bound_process import bound

# tegrastats takes less, and then keeps a core busy.
MIN_INTERVAL_S = 0.1
_LINE_BYTES = 64 * 1024
_QUEUE = 4096
_FLOOD_BYTES_PER_S = 1 << 20
_LOOK_S = 0.2
_START_S = 2.0
# A board that trains may let it wait: a restart would cost more than the pause.
_MIN_SILENCE_S = 2.0
_MAX_PAUSE_S = 60.0


def find(root: Path = Path("/")) -> str | None:
    """Where tegrastats is."""
    if root == Path("/") and (found := shutil.which("tegrastats")):
        return found
    path = root / "usr/bin/tegrastats"
    return str(path) if path.is_file() and os.access(path, os.X_OK) else None


def reading_of(
    line: Line, at_s: float, board: str | None, scope: str | None = None, twice: Collection[str] = ()
) -> tuple[Reading, str | None, str | None]:
    """A line as a reading, its total's scope (never another one than `scope`), and what does not fit in its total."""
    total = total_of(line.rails_mw, board, scope, (*line.twice, *twice), line.unread)
    reading = Reading(
        at_s=at_s,
        rails_mw=line.rails_mw,
        total_mw=total.mw,
        gpu_load=line.gpu_load,
        gpu_mhz=line.gpu_mhz,
        temps_c=line.temps_c,
    )
    return reading, total.scope, total.warning


class Tegrastats:
    """The readings of a tegrastats that this process runs."""

    name = "tegrastats"

    def __init__(
        self,
        path: str,
        *,
        board: str | None,
        interval_s: float,
        twice: frozenset[str] = frozenset(),
        first_pause_s: float = 1.0,
    ) -> None:
        """`board` is the model's text; None judges by the rails alone. Of labels that stand `twice` on this board a
        line does not say which it means."""
        self.interval_s = max(interval_s, MIN_INTERVAL_S)
        self.detail = f"{path} every {self.interval_s:g} s"
        self.restarts = 0
        self._output = _Output(board, self.interval_s, twice)
        self._command = (path, "--interval", str(round(self.interval_s * 1000)))
        self._first_pause_s = first_pause_s
        self._problem: str | None = None
        self._closing = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="tegrastats", daemon=True)
        self._thread.start()

    @property
    def scope(self) -> str | None:
        return self._output.scope

    @property
    def skipped(self) -> int:
        """Lines that were not understood."""
        return self._output.skipped

    @property
    def dropped(self) -> int:
        """Lines too long to be one, and readings that nobody fetched in time."""
        return self._output.dropped

    @property
    def pid(self) -> int | None:
        """The child's, while there is one."""
        child = self._child
        return None if child is None else child.pid

    def readings(self) -> list[Reading]:
        return self._output.drain()

    def problem(self) -> str | None:
        return self._problem or self._output.warning

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = self._first_pause_s
        while not self._closing.is_set():
            began_s = time.monotonic()
            try:
                problem = self._watch()
            except OSError as error:
                problem = f"cannot be started: {error}"
            if self._closing.is_set():
                return
            self.restarts += 1
            # One that ran for a while has earned a short pause again.
            if time.monotonic() - began_s > 10 * max(pause_s, self.interval_s):
                pause_s = self._first_pause_s
            self._problem = f"tegrastats {problem}; started again in {pause_s:g} s (restart {self.restarts})"
            self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def _watch(self) -> str:
        """Runs one child until it is of no use any more; says why."""
        with subprocess.Popen(
            bound(self._command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as child:
            self._child = child
            try:
                return self._read(child)
            finally:
                child.kill()
                child.wait()
                self._child = None

    def _read(self, child: subprocess.Popen[bytes]) -> str:
        assert child.stdout is not None
        fd = child.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN | select.POLLHUP)
        lines = _Lines()
        longest_s = max(5 * self.interval_s, _MIN_SILENCE_S)
        understood_s = time.monotonic() + _START_S
        second_s, in_second = understood_s, 0
        while not self._closing.is_set():
            if poll.poll(_LOOK_S * 1000):
                chunk = os.read(fd, _LINE_BYTES)
                if not chunk:
                    return f"ended ({_how(child.wait())}{_last_message(lines)})"
                now_s = time.monotonic()
                if now_s - second_s >= 1:
                    second_s, in_second = now_s, 0
                in_second += len(chunk)
                if in_second > _FLOOD_BYTES_PER_S:
                    return "floods"
                if self._output.add(lines.split(chunk), lines.take_dropped(), now_s):
                    understood_s = max(understood_s, now_s)
                    self._problem = None
            if time.monotonic() - understood_s > longest_s:
                return f"said nothing that is understood for {longest_s:g} s{_last_message(lines)}"
        return "is closed"


class _Output:
    """What children of this process have written so far, as readings. Thread-safe."""

    def __init__(self, board: str | None, interval_s: float, twice: frozenset[str]) -> None:
        self.scope: str | None = None
        self.skipped = 0
        self.dropped = 0
        self.warning: str | None = None
        self._board, self._interval_s, self._twice = board, interval_s, twice
        self._lock = threading.Lock()
        self._readings: deque[Reading] = deque(maxlen=_QUEUE)
        self._last_s = time.monotonic()

    def drain(self) -> list[Reading]:
        """The readings that were not handed out before, oldest first."""
        with self._lock:
            drained = list(self._readings)
            self._readings.clear()
        return drained

    def add(self, texts: Sequence[str], dropped: int, now_s: float) -> bool:
        """Lines that came now; `dropped` others were too long. Whether there was a reading among them."""
        self.dropped += dropped
        lines: list[Line] = []
        for text in texts:
            line = parse_line(text)
            if line is None:
                self.skipped += bool(text.strip())
            else:
                lines.append(line)
        if not lines:
            return False
        # Several at once waited in the pipe: the last is of now, those before it an interval earlier each.
        step_s = min(self._interval_s, (now_s - self._last_s) / len(lines))
        for i, line in enumerate(lines, 1):
            at_s = now_s - (len(lines) - i) * step_s
            # A line that was cut may lack the rail of the wider scope.
            reading, scope, self.warning = reading_of(line, at_s, self._board, self.scope, self._twice)
            self.scope = self.scope or scope
            with self._lock:
                self.dropped += len(self._readings) == _QUEUE
                self._readings.append(reading)
        self._last_s = now_s
        return True


class _Lines:
    """Bytes to lines. The last one is held back until its newline comes; one that is too long is dropped."""

    def __init__(self) -> None:
        self.last = ""
        self._dropped = 0
        self._rest = b""
        self._too_long = False

    def take_dropped(self) -> int:
        """How many were dropped since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def split(self, chunk: bytes) -> list[str]:
        *whole, rest = (self._rest + chunk).split(b"\n")
        if whole and self._too_long:
            del whole[0]
            self._too_long = False
        if self._too_long or len(rest) > _LINE_BYTES:
            self._dropped += not self._too_long
            self._too_long, rest = True, b""
        self._rest = rest
        texts = [line.decode("utf-8", "replace") for line in whole if len(line) <= _LINE_BYTES]
        self._dropped += len(whole) - len(texts)
        if texts:
            self.last = texts[-1][:200]
        return texts


def _last_message(lines: _Lines) -> str:
    return f": {lines.last}" if lines.last.startswith(("ERROR", "WARNING")) else ""


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"
