"""A process that a benchmark starts, talks to by lines, and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from federa.bound_process import bound
from federa.errors import FederaError


class Child:
    """A Python process. It ends with this one at the latest; what it writes to stderr goes to `log`."""

    def __init__(self, arguments: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self._called = " ".join(arguments[:2])
        self._log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                bound([sys.executable, "-m", *arguments]),
                env={**os.environ, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self.pid = self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.poll()

    def send(self, line: str) -> None:
        """Write a line to its stdin. Raises FederaError when it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.failure("ended") from None

    def receive(self, word: str = "") -> str:
        """Wait for its next line and return what stands behind that word. Raises FederaError for another line, or when
        it ended without one."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line or not line.startswith(word):
            raise self.failure(f"said {line!r} in place of {word!r}")
        return line[len(word) :].strip()

    def failure(self, what: str) -> FederaError:
        """An error that names it and has the last lines of its log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return FederaError(f"{self._called} {what}: {' | '.join(lines[-3:]) or 'nothing in its log'}")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
