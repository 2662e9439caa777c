"""How a command starts and ends: what Ctrl-C does before it can end in order, and after it was asked to.

A command imports for seconds. Nothing is under way then that must be ended in order: it ends at once, without a
traceback. What it runs later takes the signals over, and gives them back for the moments of its end.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from importlib import import_module
from os import _exit as exit_process
from types import FrameType

from federa.errors import EXIT_INTERRUPTED


def run_command(module: str, terminated: int = EXIT_INTERRUPTED) -> int:
    """Import a module and run its `main`; returns the exit code. Before the import nothing else must be imported that
    takes its time. SIGTERM ends it with `terminated` where nothing is under way."""
    _end_on_signals(terminated)
    try:
        code: int = import_module(module).main()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    # An event loop that ends gives the signals back to Python. What is left are threads and exit handlers.
    _end_on_signals(terminated)
    return code


def end_at_once(code: int) -> None:
    """End this process now, with what was printed. Processes of `federa.bound_process` end with it; files are whole or
    not there, as after a kill."""
    for stream in (sys.stdout, sys.stderr):
        # Where it is just being written to, it cannot be flushed.
        with contextlib.suppress(Exception):
            stream.flush()
    exit_process(code)


def _end_on_signals(terminated: int) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        end_at_once(EXIT_INTERRUPTED if number == signal.SIGINT else terminated)

    for number in (signal.SIGINT, signal.SIGTERM):
        # Whoever starts a command with a signal ignored, as nohup and shells do in the background, means it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
