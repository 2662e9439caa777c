"""What is written of a run by the way: that it lives, its bytes, its samples, and its result so far."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from coordinator.report.result import run_result, write_results
from coordinator.storage.run_storage import RunStorage
from coordinator.threads import in_thread
from federa.errors import FederaError

TICK_S = 2.0
"""How often it is recorded that a run lives: a restart counts the time since then as downtime."""


class RunRecorder:
    """Writes on threads, from `start` to `finish`. `position` says which round is open and for how many seconds,
    `control_bytes` how many bytes of control messages this process has seen; `fail` takes what cannot be written."""

    def __init__(
        self,
        storage: RunStorage,
        *,
        position: Callable[[], tuple[int, float]],
        control_bytes: Callable[[], int],
        fail: Callable[[Exception], object],
    ) -> None:
        """Read what an earlier process counted. Not on an event loop."""
        self._storage = storage
        self._position = position
        self._control_bytes = control_bytes
        self._fail = fail
        facts = storage.ledger.facts()
        self._control_bytes_before: int = facts.get("control_bytes") or 0
        self._model_bytes_before: int = facts.get("model_bytes") or 0
        self._ticking: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None

    def result(self) -> dict[str, Any]:
        """The run's entry in result.json as of now. On any thread but an event loop's. Raises LedgerFailure, also when
        the run has been closed meanwhile."""
        return run_result(self._storage.reader, self._storage.samples)

    def start(self) -> None:
        """Begin to record that the run lives."""
        self._ticking = asyncio.ensure_future(self._tick())

    def write_soon(self) -> None:
        """Write the result so far, while the run goes on; where the last one is still being written, let that be."""
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write_in_task())

    async def finish(self) -> None:
        """Write all there is, and close the storage."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await in_thread(self._write_last)

    async def _tick(self) -> None:
        ledger, models = self._storage.ledger, self._storage.models
        model_bytes = 0
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await in_thread(ledger.alive, *self._position(), time.time())
                if models.wire_bytes != model_bytes:  # a long time may go by before the first round ends
                    model_bytes = models.wire_bytes
                    await in_thread(ledger.note, model_bytes=self._model_bytes_before + model_bytes)
                await in_thread(self._storage.samples.write)
            except (FederaError, OSError) as error:
                self._fail(error)
                return

    async def _write_in_task(self) -> None:
        try:
            await in_thread(self._write)
        except (FederaError, OSError) as error:
            self._fail(error)

    def _write(self) -> None:
        self._storage.ledger.note(
            control_bytes=self._control_bytes_before + self._control_bytes(),
            model_bytes=self._model_bytes_before + self._storage.models.wire_bytes,
        )
        write_results(self._storage.folder.path, [self.result()])

    def _write_last(self) -> None:
        # A ledger or a disk that fails has had its say already.
        with contextlib.suppress(OSError):
            self._storage.samples.write()
        try:
            with contextlib.suppress(FederaError, OSError):
                self._write()
        finally:
            self._storage.close()
