"""Keeping a long-lived process's memory where it is, on glibc. Elsewhere nothing is done."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # glibc's malloc.h
_ARENAS = 2


def limit_arenas() -> None:
    """Let malloc keep two heaps, before threads are started.

    Every thread that hashes or copies a state would else get a heap of its own, with the pieces of freed states left
    in it: on the coordinator, at 50 clients, five states more than at 2.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def return_freed() -> None:
    """Give freed pages back to the system, between rounds: they are the page cache's, or another process's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
