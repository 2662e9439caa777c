"""The thread on which a worker computes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class ComputeThread:
    """One thread for all that torch does: its allocator and its thread pool then stay with it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="compute")

    async def run(self, call: Callable[..., T], *arguments: object) -> T:
        """What the call returns, once it is its turn."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)

    def close(self) -> None:
        """Take no more calls. The one under way is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
