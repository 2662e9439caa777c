"""How long to wait before the next attempt to reach a coordinator that is away."""

from __future__ import annotations

import random

_FIRST_S, _LAST_S = 0.2, 5.0


class Backoff:
    """Waits that double from attempt to attempt, with jitter: a coordinator that comes back must not meet all its
    workers at once."""

    def __init__(self) -> None:
        self._wait_s = _FIRST_S

    def next_s(self) -> float:
        """Seconds to wait now."""
        wait_s = self._wait_s * random.uniform(0.5, 1.5)
        self._wait_s = min(2 * self._wait_s, _LAST_S)
        return wait_s
