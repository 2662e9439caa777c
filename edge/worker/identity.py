"""Who a worker is: a random key kept on its disk, by which a coordinator knows it again after a restart."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from platformdirs.unix import Unix

from federa.durable import write_file
from federa.errors import BadInput
from protos.channel import valid_key

_MAX_NAME_BYTES = 200  # bytes of a file's name; most file systems take 255


def default_state_folder() -> Path:
    """$XDG_STATE_HOME/federa, or ~/.local/state/federa where that is unset or relative: also on macOS, where keys have
    always been there. Raises BadInput for a user without a home."""
    try:
        return Unix("federa").user_state_path
    except RuntimeError:
        raise BadInput("--state: must name a folder for this worker's key: this user has no home") from None


def file_name(name: str) -> str:
    """A worker's name as the name of a file: percent-quoted, with no dot in front, and of a long one the beginning and
    a digest."""
    quoted = quote(name, safe="")
    if quoted.startswith("."):
        quoted = f"%2E{quoted[1:]}"
    if len(quoted) > _MAX_NAME_BYTES:
        quoted = f"{quoted[: _MAX_NAME_BYTES - 33]}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return quoted


class Identity:
    """A context in which this process is this machine's one worker of its name, with `key`: 128 random bits in hex.

    The first worker of a name makes the key. The lock beside it is the process's: it is gone when that dies, however
    it does. Raises BadInput for a name that is in use, and for files that cannot be used.
    """

    def __init__(self, folder: Path, name: str, key: str = "") -> None:
        """With a `key` given, a certificate's, none is kept here: the folder has the lock alone."""
        self.key = key
        self._name = name
        self._path = folder / file_name(name)
        # A file of its own, for the key's is replaced as a whole. No key's name begins with a dot.
        self._lock_path = folder / f".{self._path.name}.lock"
        self._lock = -1

    def __enter__(self) -> Identity:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(self._lock_path, error) from None
        try:
            self._take_lock()
            self.key = self.key or self._read() or self._make()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # The file stays: one that was removed could be locked by a worker that had opened it before.
        os.close(self._lock)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(self._lock, 0)
            os.write(self._lock, f"{os.getpid()}\n".encode())
        except BlockingIOError:
            owner = os.pread(self._lock, 20, 0).decode("ascii", "replace").strip()
            raise BadInput(
                f"a worker named {self._name!r} runs here already (pid {owner or 'unknown'}): "
                "end it, or give this one another --name"
            ) from None
        except OSError as error:
            raise self._unusable(self._lock_path, error) from None

    def _read(self) -> str | None:
        try:
            with self._path.open("rb") as file:
                key = file.read(64).decode("ascii", "replace").removesuffix("\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(self._path, error) from None
        if not valid_key(key):
            raise BadInput(
                f"--state: {self._path} must hold this worker's key, 32 hexadecimal digits; "
                "without the file the worker makes a new key, and is another worker to its coordinator"
            )
        return key

    def _make(self) -> str:
        key = secrets.token_hex(16)
        try:
            write_file(self._path, f"{key}\n".encode(), mode=0o600)
        except OSError as error:
            raise self._unusable(self._path, error) from None
        return key

    def _unusable(self, path: Path, error: OSError) -> BadInput:
        return BadInput(f"--state: cannot use {path} for this worker's key: {error.strerror}; choose another folder")
