"""A process that ends with the one that started it, however that ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# The kernel kills the process when its parent is gone (prctl's PR_SET_PDEATHSIG, 1, with SIGKILL), and goes on doing so
# after exec. Killed, not asked to end: whoever starts the same again at once must not find its files in use. The parent
# may have gone before the call: then it has another one already. This is a program of its own, not code between fork
# and exec (`preexec_fn`), which in a process with threads may wait for ever for a lock that one of them held.
_BIND = (
    "import ctypes,os,sys\n"
    "ctypes.CDLL(None).prctl(1,9)\n"
    "if os.getppid()!=int(sys.argv[1]):sys.exit(1)\n"
    "try:os.execvp(sys.argv[2],sys.argv[2:])\n"
    "except OSError as problem:sys.exit(f'ERROR: {problem}')"
)


def bound(command: Sequence[str]) -> list[str]:
    """A command that becomes `command` in the same process, and ends when this process does, or the thread in which it
    is started. A program that cannot be started is one line on its standard error and exit code 1."""
    return [sys.executable, "-I", "-S", "-c", _BIND, str(os.getpid()), *command]
