"""How fast the coordinator answers heartbeats."""

from __future__ import annotations

import time


class HeartbeatLatency:
    """`count` heartbeats were answered, the slowest after `worst_ms` milliseconds."""

    def __init__(self) -> None:
        self.count = 0
        self.worst_ms = 0.0
        self._sent_at: dict[int, float] = {}

    def sent(self, sequence: int) -> None:
        """A heartbeat is on its way."""
        self._sent_at[sequence] = time.monotonic()

    def answered(self, sequence: int) -> None:
        """Its answer came. One that was not sent, or before the last `disconnected`, counts for nothing."""
        began = self._sent_at.pop(sequence, None)
        if began is not None:
            self.count += 1
            self.worst_ms = max(self.worst_ms, (time.monotonic() - began) * 1e3)

    def disconnected(self) -> None:
        """The stream is over: what is on its way will not be answered."""
        self._sent_at.clear()

    def reset(self) -> None:
        """Count anew; what is on its way counts from now on."""
        self.count, self.worst_ms = 0, 0.0

    def __str__(self) -> str:
        return f"{self.count} heartbeats, answered after at most {self.worst_ms:.0f} ms"
