"""Who may call for a run's states and bring updates, and from when on."""

from __future__ import annotations

from coordinator.clients.errors import AuthError, RunNotReady
from coordinator.clients.sessions import Sessions


class RunAccess:
    """Lets the workers of one run in, by their keys, once it `is_ready`; `is_over` says that nothing more counts."""

    def __init__(self, run_id: str, sessions: Sessions) -> None:
        self.run_id = run_id
        self.is_ready = False
        self.is_over = False
        self._sessions = sessions

    def check(self, worker: str, key: str) -> None:
        """Raise RunNotReady while the run is being prepared, for the keys are known only then, and AuthError for whom
        this is not the key."""
        if not self.is_ready:
            raise RunNotReady(f"run {self.run_id} is being prepared")
        if not self._sessions.has_key(worker, key):
            raise AuthError(f"this is not the worker {worker!r} of run {self.run_id}: it has another key")
