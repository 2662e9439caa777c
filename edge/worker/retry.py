"""Trying a transfer until it gets through, or until the coordinator has answered it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from edge.worker.transfer import STALL_S, Spoiled, Stalled
from federa.backoff import Backoff

log = logging.getLogger("federa.worker")

T = TypeVar("T")

# The coordinator is away, busy or recovering, or the link is cut: tried again for as long as this worker lives.
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
# What a transport says that broke in the middle, but also a coordinator with a fault of its own or a disk that forgets:
# tried again, and not for ever.
_DOUBTFUL = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS}
DOUBTFUL_ATTEMPTS = 10

MAX_STALL_S = 16 * STALL_S


async def retry(attempt: Callable[[float], Awaitable[T]]) -> T:
    """What `attempt` returns, called until it does; its argument is for how long nothing may move, in seconds. Raises
    the grpc.aio.AioRpcError of an answer that no later attempt would change, and whatever else `attempt` raises."""
    backoff = Backoff()
    doubtful = 0
    stall_s = STALL_S
    while True:
        try:
            return await attempt(stall_s)
        except Stalled as error:
            # A chunk moves as a whole: over a link that needs longer for one, the same wait would never see it come.
            stall_s = min(2 * stall_s, MAX_STALL_S)
            reason = str(error)
        except Spoiled as error:
            doubtful += 1
            if doubtful >= DOUBTFUL_ATTEMPTS:
                raise
            reason = str(error)
        except grpc.aio.AioRpcError as error:
            doubtful += error.code() in _DOUBTFUL
            if error.code() not in _PASSING | _DOUBTFUL or doubtful >= DOUBTFUL_ATTEMPTS:
                raise
            reason = rpc_message(error)
        log.warning("%s, trying again", reason)
        await asyncio.sleep(backoff.next_s())


def rpc_message(error: grpc.aio.AioRpcError) -> str:
    """Status and details in one line; str() of such an error has many."""
    return f"{error.code().name}: {' '.join(str(error.details()).split())}"
