"""Everything of one run that is on the disk."""

from __future__ import annotations

import contextlib
from pathlib import Path

from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_reader import LedgerReader
from coordinator.storage.model_store import ModelStore
from coordinator.storage.run_folder import RunFolder
from coordinator.storage.samples import Samples
from federa.errors import FederaError


class RunStorage:
    """A run's folder with its ledger, open. Results are read over `reader`, a connection of their own: nobody who
    waits for the ledger waits for them."""

    def __init__(self, path: Path) -> None:
        """Open the folder, or begin it. Takes a moment; not on an event loop. Raises BadInput and OSError."""
        self.folder = RunFolder(path)
        self.ledger = Ledger(self.folder.ledger)
        self.reader = LedgerReader(self.folder.ledger)
        self.samples = Samples(path)
        self.models = ModelStore()

    def close(self) -> None:
        """Write what waits, and close. Not on an event loop either."""
        self.reader.close()
        # A ledger that fails has said so where it was written to.
        with contextlib.suppress(FederaError):
            self.ledger.close()
