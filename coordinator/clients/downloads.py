"""What the workers of a run may download: its states of now, and the base model's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coordinator.clients.access import RunAccess
from coordinator.rounds.state_machine import RoundStateMachine
from coordinator.storage.ledger import Ledger
from coordinator.storage.model_store import ModelStore
from coordinator.storage.round_states import RunStates
from coordinator.storage.run_folder import RunFolder
from protos import federation_pb2 as pb


class Downloads:
    """Finds the files of one run that may go down, and counts their bytes. `serve` it the states once they are
    there; `show_bytes` is called when some of a state's have moved."""

    def __init__(
        self,
        access: RunAccess,
        *,
        folder: RunFolder,
        ledger: Ledger,
        models: ModelStore,
        show_bytes: Callable[[], None],
    ) -> None:
        self._access = access
        self._folder = folder
        self._ledger = ledger
        self._models = models
        self._show_bytes = show_bytes
        self._machine: RoundStateMachine | None = None
        self._states: RunStates | None = None

    def serve(self, machine: RoundStateMachine, states: RunStates) -> None:
        """Serve these states from now on."""
        self._machine, self._states = machine, states

    def find(self, request: pb.DownloadRequest) -> Path | None:
        """Find the file that a worker asks for, a state or one of the base model's, or None when there is no such file
        now. Raises RunNotReady and AuthError."""
        self._access.check(request.worker, request.key)
        if (served := self._models.path(request.sha256)) is not None:
            return served if served.is_file() else None
        digest, states = request.sha256.hex(), self._states
        if states is None or digest not in (states.start, states.broadcast_sha256):
            return None
        return self._folder.state(digest)

    def count(self, request: pb.DownloadRequest, wire_bytes: int, state_bytes: int) -> None:
        """Count bytes that have gone down to a worker; `state_bytes` where it was the whole of a state."""
        if self._models.path(request.sha256) is not None:
            self._models.wire_bytes += wire_bytes
        elif not self._access.is_over:
            round_ = max(1, self._machine.round) if self._machine is not None else 1
            self._ledger.downloaded(
                round_=round_, device=request.worker, wire_bytes=wire_bytes, state_bytes=state_bytes
            )
            self._show_bytes()
