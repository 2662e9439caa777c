"""Keeping the coordinator's memory where it is."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # glibc's malloc.h
_ARENAS = 2


def limit_arenas() -> None:
    """Let glibc keep two heaps, before threads are started.

    Every thread that hashes or checks an upload would else get a heap of its own, with the pieces of freed states left
    in it: five states more at 50 clients than at 2. Where malloc is not glibc's there is nothing to set.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
