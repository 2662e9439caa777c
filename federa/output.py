"""Standard output and error of a command, so that what reads them cannot end it.

A terminal that cannot show a sign gets a `?`. When nobody reads on (`| head -1`, a closed terminal), what is printed
goes nowhere and the command goes on: a run's exit code says how the run ended, not who watched it. What came from a
file or a peer reaches the terminal with its control characters escaped.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys

from federa.errors import shown

MAX_MESSAGE = 2_000
"""The most characters of a message on standard error, and of a line of the log."""
_NOBODY_READS = (errno.EPIPE, errno.EIO)


class _Stream(io.RawIOBase):
    """Writes to a file descriptor until that fails, and nowhere from then on."""

    def __init__(self, descriptor: int) -> None:
        self.failure: OSError | None = None
        """Why a write failed, where it was not for want of a reader."""
        self._descriptor = descriptor
        self._open = True

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        while self._open:
            try:
                return os.write(self._descriptor, view)
            except BlockingIOError:
                os.set_blocking(self._descriptor, True)  # whoever shares the terminal left it so
            except OSError as error:
                self._open = False
                self.failure = None if error.errno in _NOBODY_READS else error
        return len(view)


def prepare_output() -> None:
    """Make this process's standard streams such. For the start of a command, before anything opens a file: of closed
    ones the next files that are opened would take the numbers, and what is printed would end in a ledger."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            # Not the descriptor: it was closed, and may be another file's by now.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
            continue
        if stream is not getattr(sys, f"__{name}__"):
            continue  # a test's, or a notebook's: it is as its owner made it
        with contextlib.suppress(OSError):
            stream.flush()
        wrapped = io.TextIOWrapper(
            io.BufferedWriter(_Stream(descriptor)),
            encoding=stream.encoding,
            errors="replace",
            line_buffering=stream.line_buffering or name == "stderr",
            write_through=name == "stderr",
        )
        setattr(sys, name, wrapped)
        setattr(sys, f"__{name}__", wrapped)


def output_failure() -> str:
    """Flush what was printed; why not all of it could be written, such as to a full disk. Empty where it was, and where
    nobody read on."""
    stream = sys.stdout
    if stream is None:
        return ""
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    failure = raw.failure if isinstance(raw, _Stream) else None
    return "" if failure is None else f"cannot write to standard output: {failure.strerror or failure}"


def print_error(command: str, message: object) -> None:
    """Say on standard error what ended a command: one line, with what does not print escaped."""
    print(f"{command}: {shown(message, MAX_MESSAGE)}", file=sys.stderr)


class _LogFormatter(logging.Formatter):
    """Escapes in messages what does not print: names and reasons of other machines are among them. A traceback that
    follows has its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return shown(super().formatMessage(record), MAX_MESSAGE)


def log_to_stderr() -> None:
    """Let this process's log go to standard error, from INFO on, with the time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LogFormatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
