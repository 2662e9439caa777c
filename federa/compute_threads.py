"""How the threads of torch and of what it computes with behave on a machine that does other things too.

A thread of OpenMP that has nothing to do spins for a while before it sleeps. Where another process has the core that
the others wait for, all of that is lost, many thousand times in one SVD: FeDeRA's start takes minutes in place of a
third of a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from federa.cores import count_cores

THREADS_VARIABLE = "OMP_NUM_THREADS"
MAX_THREADS = 1024
_POLICY = "OMP_WAIT_POLICY"

T = TypeVar("T")
S = TypeVar("S")


def wait_passively() -> None:
    """Have OpenMP's threads sleep when they wait, unless the user's environment says how they wait. Call before torch
    is imported: its libraries read the environment once, when they are loaded."""
    if _POLICY not in os.environ:
        os.environ[_POLICY] = "PASSIVE"  # GNU's OpenMP, of pip's torch
        os.environ.setdefault("KMP_BLOCKTIME", "0")  # LLVM's and Intel's, of others


def environment_threads() -> int:
    """With how many threads the user's environment says to compute, 0 where it does not."""
    text = os.environ.get(THREADS_VARIABLE, "")
    return int(text) if text.isdecimal() and 1 <= int(text) <= MAX_THREADS else 0


def use_all_cores() -> None:
    """Have torch compute with a thread for each core that this process may use, unless the user's environment says with
    how many. Call before torch is imported."""
    os.environ.setdefault(THREADS_VARIABLE, str(count_cores().count))


def in_single_threads(call: Callable[[T], S], items: Iterable[T], at_once: int) -> list[S]:
    """What the call returns for each item, in order. As many calls are made at once as torch has threads, at most
    `at_once`, and each computes with one: no thread waits for another, and the numbers do not depend on how many there
    are. Nothing else may compute with torch meanwhile."""
    import torch

    before = torch.get_num_threads()
    try:
        # In each thread too: an OpenBLAS asks its own thread how many it may use.
        with ThreadPoolExecutor(min(before, at_once), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(call, items))
    finally:
        torch.set_num_threads(before)
