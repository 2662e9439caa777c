"""A run's folder: ledger, states, spool, and what is left at the end."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from federa.bundle import DESCRIPTION, FINAL, START, STATE, BundleFacts, write_bundle
from federa.durable import move, sync, write_file
from federa.errors import BadInput
from federa.tensors.state import digest_of

RESULT = "result.json"
REPORT = "report.html"
FINAL_STATE = f"{FINAL}/{STATE}"
FINAL_FILES = tuple(f"{FINAL}/{name}" for name in (STATE, START, DESCRIPTION))
"""What may lie in final/: the bundle of the last state."""
LEDGER = "ledger.sqlite"
LOCK = ".lock"


class RunFolder:
    """Paths below one folder, and writing that is either whole or not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("states", "spool", "final"):
            (path / name).mkdir(parents=True, exist_ok=True)
        sync(path)
        sync(path.parent)

    @property
    def ledger(self) -> Path:
        return self.path / LEDGER

    def state(self, digest: str) -> Path:
        """Where the state of that SHA-256 (hex) lies, or would."""
        return self.path / "states" / f"{digest}.safetensors"

    def update(self, round_: int, client: int, digest: str) -> Path:
        """Where an update lies until its round is aggregated. Its digest is in the name, so that a second update of the
        same round and client can never overwrite the first."""
        return self.path / "spool" / f"round-{round_:05d}-client-{client:05d}-{digest}.safetensors"

    def partial(self, round_: int, client: int, digest: str) -> Path:
        """Where an update lies until it is whole and checked."""
        return self.path / "spool" / f"partial-{round_:05d}-{client:05d}-{digest}"

    def partials(self, round_: int, client: int | None = None) -> list[Path]:
        """What there is of a round's uploads that are not whole, or of one client's."""
        which = "*" if client is None else f"{client:05d}-*"
        return list((self.path / "spool").glob(f"partial-{round_:05d}-{which}"))

    def keep_state(self, blob: bytes) -> str:
        """Write a state durably and return its digest, its name."""
        digest = digest_of(blob)
        write_file(self.state(digest), blob)
        return digest

    @property
    def model(self) -> Path:
        """Where files of the base model lie that had to be made."""
        return self.path / "model"

    def fresh_state(self) -> Path:
        """Where a state is written that has no digest yet."""
        return self.path / "states" / "aggregated.new"

    def fresh_server_state(self) -> Path:
        """The same for what an aggregator remembers beside it."""
        return self.path / "states" / "server.new"

    def name_state(self, fresh: Path, digest: str) -> None:
        """Give a state that is written and synced its place, durably."""
        move(fresh, self.state(digest))

    def tidy(self, *, states: set[str], updates: set[Path], round_: int) -> None:
        """Remove every state and every update but these, and all that is half there; of this round's uploads the
        beginnings stay, for their workers to go on from."""
        kept = {self.state(digest) for digest in states} | updates | set(self.partials(round_))
        for folder in ("states", "spool"):
            for path in (self.path / folder).iterdir():
                if path not in kept:
                    path.unlink(missing_ok=True)  # an upload that ends meanwhile removes its own

    def publish_final(self, *, state: str, start: str, facts: BundleFacts) -> None:
        """Make final/ the bundle of a state, by its digest; `start` is what the run began with."""
        write_bundle(self.path / FINAL, state=self.state(state), start=self.state(start), facts=facts)


class Claim:
    """A folder for results that is this process's until `release` or its end, however that comes."""

    def __init__(self, path: Path) -> None:
        """Create the folder. Raises BadInput when it cannot be written, or another process has it."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / LOCK).open("w")
        except OSError as error:
            raise BadInput(f"--out: cannot write to {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise BadInput(f"--out: another process is using {path}; wait for it or name another folder") from None

    def release(self) -> None:
        self._lock.close()


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Put a tree at `path` as JSON, whole or not at all, on the disk when this returns."""
    write_file(path, json.dumps(tree, indent=1, allow_nan=False).encode() + b"\n")
