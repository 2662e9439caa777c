"""What is written and has to outlast a power cut: whole under its name, or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or the names in a folder, when this returns. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move(synced: Path, path: Path) -> None:
    """Give a file or folder that the disk holds already another name, in place of what has it, durably."""
    os.replace(synced, path)
    sync(path.parent)


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """A context for writing a file anew: gives a path beside it, where nothing is. What is written there takes the
    file's place when the context ends, durably; when it ends by an error the file stays as it was."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # of a process that was killed
    try:
        yield fresh
        sync(fresh)
        move(fresh, path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Put `content` at `path`, whole or not at all, on the disk when this returns. The file has its mode (less the
    process's umask) before it has a byte. Raises OSError."""
    with replacement(path) as fresh:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
