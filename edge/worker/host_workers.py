"""The workers that share this machine's cores: each leaves a file for the others, locked for as long as it lives."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from platformdirs.unix import Unix

from federa.cores import Cores, count_cores

_MAX_BYTES = 1 << 16  # of a worker's file
_MAX_NAME_CHARS = 100


def default_runtime_folder() -> Path:
    """$XDG_RUNTIME_DIR/federa, or where that is not set /run/user/UID/federa, or a folder of this user's for temporary
    files: of this machine, and of this start of it. Raises OSError where there is none that is this user's alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the variable is not set
        return Unix("federa").user_runtime_path


@dataclass(frozen=True, kw_only=True, slots=True)
class HostWorker:
    """A worker on this machine: the cores that it may use, and the `threads` that it was told, 0: its share."""

    name: str
    cores: Cores
    threads: int = 0


def fair_share(own: HostWorker, others: Sequence[HostWorker]) -> int:
    """Threads for a worker: of each CPU that it may use, and of its cgroup's quota, an equal part with those others
    that use it too, of what workers with a number of their own leave. At least one."""
    told = [other for other in others if other.threads]
    equal = [other for other in others if not other.threads]
    share = Fraction()
    for cpu in own.cores.cpus:
        taken = Fraction(sum(Fraction(each.threads, len(each.cores.cpus)) for each in told if cpu in each.cores.cpus))
        share += max(Fraction(), 1 - taken) / (1 + sum(cpu in each.cores.cpus for each in equal))
    if own.cores.quota is not None:
        taken = Fraction(sum(each.threads for each in told if each.cores.cgroup == own.cores.cgroup))
        count = 1 + sum(each.cores.cgroup == own.cores.cgroup for each in equal)
        share = min(share, max(Fraction(), own.cores.quota - taken) / count)
    return max(1, int(share))


class HostWorkers:
    """This process among the workers of this machine and user, from `register` to `leave`. `others` are the rest. Where
    `folder` cannot be used, they do not know of this one, and `problem` says why."""

    def __init__(
        self,
        name: str,
        *,
        threads: int = 0,
        folder: Callable[[], Path] = default_runtime_folder,
        cores: Callable[[], Cores] = count_cores,
    ) -> None:
        self.problem = ""
        self._name = name
        self._threads = threads
        self._find_folder = folder
        self._count_cores = cores
        self._path: Path | None = None
        self._lock = -1

    def register(self) -> HostWorker:
        """Say, or say anew, what this worker uses: a power mode can take cores away, and files of a user who logged off
        are removed."""
        own = HostWorker(name=self._name, cores=self._count_cores(), threads=self._threads)
        before, lock, self._path, self._lock = self._path, self._lock, None, -1
        try:
            folder = self._find_folder()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path, self._lock = _leave_file(folder, own)
            self.problem = ""
        except OSError as error:
            self.problem = f"{error.filename or 'no folder of its own'}: {error.strerror or error}"
        _remove(before, lock)
        return own

    def leave(self) -> None:
        """Count no more."""
        path, lock, self._path, self._lock = self._path, self._lock, None, -1
        _remove(path, lock)

    def others(self) -> list[HostWorker]:
        """The other workers that live."""
        try:
            folder = self._find_folder()
            return [worker for path in sorted(folder.glob("*.json")) if (worker := self._read(path)) is not None]
        except OSError:
            return []

    def _read(self, path: Path) -> HostWorker | None:
        """None for this worker's own file and for one whose worker is gone, which is removed."""
        if path == self._path:
            return None
        try:
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return _parsed(file.read(_MAX_BYTES))
                path.unlink()
        except OSError:
            pass  # another worker removed it before
        return None


def _leave_file(folder: Path, own: HostWorker) -> tuple[Path, int]:
    """A file that is locked before it has the name by which it is found."""
    quota = own.cores.quota
    entry = {
        "pid": os.getpid(),
        "name": own.name,
        "threads": own.threads,
        "cpus": sorted(own.cores.cpus),
        "quota": None if quota is None else [quota.numerator, quota.denominator],
        "cgroup": own.cores.cgroup,
    }
    path = folder / f"worker-{os.getpid()}-{secrets.token_hex(4)}.json"
    fresh = path.with_suffix(".new")
    lock = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(lock, json.dumps(entry).encode())
        fresh.rename(path)
    except BaseException:
        _remove(fresh, lock)
        raise
    return path, lock


def _remove(path: Path | None, lock: int) -> None:
    if path is not None:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    if lock >= 0:
        os.close(lock)


def _parsed(content: bytes) -> HostWorker | None:
    """None for what no worker of ours wrote."""
    try:
        entry: dict[str, Any] = json.loads(content)
        quota = entry["quota"]
        cores = Cores(
            cpus=frozenset(map(int, entry["cpus"])),
            quota=None if quota is None else Fraction(*map(int, quota)),
            cgroup=str(entry["cgroup"]),
        )
        return HostWorker(name=str(entry["name"])[:_MAX_NAME_CHARS], cores=cores, threads=int(entry["threads"]))
    except (ValueError, TypeError, KeyError, ArithmeticError):
        return None
