"""Work that would hold up the event loop: the disk, the ledger, hashing."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call it on a thread; its result. A caller that is cancelled meanwhile waits for its end all the same: what it
    does next must not overtake it."""
    call = functools.partial(work, *arguments, **named)
    return await to_its_end(asyncio.get_running_loop().run_in_executor(None, call))


async def to_its_end(future: asyncio.Future[T]) -> T:
    """Wait for a future that goes on when the caller is cancelled; the caller waits for it then, too."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
