"""Work on threads: a caller that is cancelled waits for the end of what it began."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordinator.threads import in_thread


def test_the_result_or_exception_of_what_is_done_on_another_thread_comes_back():
    async def work():
        assert await in_thread(threading.get_ident) != threading.get_ident()
        assert await in_thread(sorted, [2, 1], reverse=True) == [2, 1]
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 / 0)

    asyncio.run(work())


def test_who_is_cancelled_meanwhile_goes_on_when_it_is_done():
    began, may_end, ended = threading.Event(), threading.Event(), []

    def slow():
        began.set()
        may_end.wait(10)
        ended.append(True)

    async def work():
        task = asyncio.ensure_future(in_thread(slow))
        assert await asyncio.to_thread(began.wait, 10)
        task.cancel()
        _, waiting = await asyncio.wait({task}, timeout=0.05)
        assert waiting and not ended
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended

    asyncio.run(work())
