"""A run's folder: ledger, states, spool, and what is left at the end."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from federa.errors import BadInput
from federa.state import digest_of

RESULT = "result.json"
REPORT = "report.html"
FINAL_STATE = "final/state.safetensors"
LEDGER = "ledger.sqlite"


class RunFolder:
    """Paths below one folder, and writing that is either whole or not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("states", "spool", "final"):
            (path / name).mkdir(parents=True, exist_ok=True)

    @property
    def ledger(self) -> Path:
        return self.path / LEDGER

    def state(self, digest: str) -> Path:
        """Where the state of that SHA-256 (hex) lies, or would."""
        return self.path / "states" / f"{digest}.safetensors"

    def update(self, round_: int, client: int, digest: str) -> Path:
        """Where an update lies until its round is folded. Its digest is in the name, so that a second update of the
        same round and client can never overwrite the first."""
        return self.path / "spool" / f"round-{round_:05d}-client-{client:05d}-{digest}.safetensors"

    def keep_state(self, blob: bytes) -> str:
        """Write a state durably and return its digest, its name."""
        digest = digest_of(blob)
        write_durably(self.state(digest), blob)
        return digest

    def drop_states(self, but: set[str]) -> None:
        """Remove every state except these digests."""
        for path in (self.path / "states").glob("*.safetensors"):
            if path.stem not in but:
                path.unlink()

    def drop_updates(self, round_: int) -> None:
        """Empty the spool of a folded round."""
        for path in (self.path / "spool").glob(f"round-{round_:05d}-*"):
            path.unlink()

    def publish_final(self, digest: str) -> None:
        """Make a state final/state.safetensors."""
        final = self.path / FINAL_STATE
        fresh = final.with_suffix(".new")
        shutil.copyfile(self.state(digest), fresh)
        sync(fresh)
        os.replace(fresh, final)
        sync(final.parent)


def claim_folder(path: Path) -> None:
    """Create a folder for results. Raises BadInput when it cannot be written or already holds a result."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"--out: cannot write to {path}: {error.strerror}") from None
    for name in (RESULT, LEDGER):
        if (path / name).exists():
            raise BadInput(f"--out: {path} already holds a {name}; name another folder, nothing is overwritten")


def write_durably(path: Path, blob: bytes) -> None:
    """Put `blob` at `path`, whole or not at all, on the disk when this returns."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(blob)
    sync(fresh)
    os.replace(fresh, path)
    sync(path.parent)


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """The same for a JSON file."""
    write_durably(path, json.dumps(tree, indent=1, allow_nan=False).encode() + b"\n")


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
