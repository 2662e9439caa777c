"""Base models that the coordinator served, kept on this machine's disk: fetched once, by one worker at a time."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from federa.cache_folder import cache_folder
from federa.durable import move, sync
from federa.errors import BadInput, FederaError
from federa.models.files import ModelFile, files_digest, is_whole
from federa.numbers import human_bytes
from protos.streams import StreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = logging.getLogger("federa.worker")

LOOK_AGAIN_S = 0.5
"""How often a worker looks whether another one has fetched what both need."""

FetchFile = Callable[[ModelFile, Path, Callable[[int], None]], Awaitable[None]]
"""Makes a file whole at a path, where its beginning may lie; tells how many of its bytes are there."""


def default_cache_folder() -> Path:
    """The user's cache folder. Raises BadInput for a user without a home."""
    return cache_folder("--cache")


class ModelCache:
    """Below `folder`: models/DIGEST for each list of files, models/DIGEST.part while it is not whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "models"

    def find(self, files: Sequence[ModelFile]) -> Path | None:
        """The folder with just these files, or None where there is none. Hashes them: a disk may forget."""
        folder = self._folder / files_digest(files)
        return folder if folder.is_dir() and all(is_whole(folder / file.name, file) for file in files) else None

    async def fetch(self, files: Sequence[ModelFile], fetch_file: FetchFile, show: Callable[[float], None]) -> Path:
        """The folder with these files, which `fetch_file` fetches unless another worker does meanwhile. `show` is
        called with the progress, up to 1, from a thread. However it ends, what came stays, and the next call goes on
        from there.

        Raises what `fetch_file` does, but for a disk that cannot be written BadInput, and FederaError for files that
        are not what their list says."""
        digest = files_digest(files)
        partial, whole = self._folder / f"{digest}.part", self._folder / digest
        try:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
            async with self._alone(self._folder / f"{digest}.lock"):
                if (found := await asyncio.to_thread(self.find, files)) is not None:
                    return found
                await asyncio.to_thread(self._begin, partial, whole, files)
                await self._fetch_all(files, partial, fetch_file, show)
                await asyncio.to_thread(_publish, partial, whole)
        except OSError as error:
            raise BadInput(
                f"--cache: cannot write the base model to {partial}: {error.strerror or error}; it has "
                f"{human_bytes(sum(file.size for file in files))}: make room, or name another folder"
            ) from None
        log.info("the base model is whole: %s", whole)
        return whole

    @asynccontextmanager
    async def _alone(self, path: Path) -> AsyncIterator[None]:
        """Hold the lock, which is the process's: it is free when that dies, however it does."""
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            logged = False
            while not _locked(lock):
                if not logged:
                    log.info("another worker on this machine fetches the base model: waiting for it")
                    logged = True
                await asyncio.sleep(LOOK_AGAIN_S)
            yield
        finally:
            os.close(lock)

    def _begin(self, partial: Path, whole: Path, files: Sequence[ModelFile]) -> None:
        if whole.is_dir():
            log.warning("%s is not what it was: its files are checked, and fetched where they are damaged", whole)
            shutil.rmtree(partial, ignore_errors=True)
            os.replace(whole, partial)
        partial.mkdir(exist_ok=True)
        there = sum((partial / file.name).stat().st_size for file in files if (partial / file.name).is_file())
        missing, free = sum(file.size for file in files) - there, shutil.disk_usage(partial).free
        if missing > free:
            raise BadInput(
                f"--cache: the base model needs {human_bytes(missing)} more in {self._folder}, where "
                f"{human_bytes(free)} are free: make room, or name another folder"
            )
        log.info(
            "fetching the base model from the coordinator: %d files, %s, of which %s are here",
            len(files), human_bytes(sum(file.size for file in files)), human_bytes(there),
        )  # fmt: skip

    async def _fetch_all(
        self, files: Sequence[ModelFile], partial: Path, fetch_file: FetchFile, show: Callable[[float], None]
    ) -> None:
        total, before = max(1, sum(file.size for file in files)), 0

        def moved(size: int) -> None:
            show((before + size) / total)

        for file in files:
            try:
                await fetch_file(file, partial / file.name, moved)
            except StreamError as error:
                raise FederaError(f"model: {file.name}, as the coordinator sends it: {error}") from None
            before += file.size


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _publish(partial: Path, whole: Path) -> None:
    """Give the folder, whose files are on the disk, its name, durably."""
    sync(partial)
    move(partial, whole)
