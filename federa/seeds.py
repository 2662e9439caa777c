"""Every seed of a run is derived from the run's own, so that nothing depends on who ran when."""

from __future__ import annotations

import hashlib


def derive_seed(run_seed: int, *scope: str | int) -> int:
    """A seed in [0, 2**63) for one use, such as ("round", 3, "client", 7).

    SHA-256 over the run's seed and the scope: equal on every machine and version, and unrelated between scopes.
    """
    text = "/".join([str(run_seed), *map(str, scope)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
