"""A run's transfers between this worker and the coordinator: states down, updates up, the base model's files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edge.worker.model_cache import ModelCache
from edge.worker.retry import retry
from edge.worker.transfer import Download, FileDownload, Link, Upload
from edge.worker.work_in_progress import WorkInProgress, WorkStopped
from federa.models.files import ModelFile
from protos import federation_pb2 as pb
from protos.federation_pb2_grpc import WorkerServiceStub


class RunTransfers:
    """Each is tried until it gets through, or until the work that it is for is stopped: then it raises WorkStopped."""

    def __init__(self, run_id: str, *, stub: WorkerServiceStub, worker: str, key: str, work: WorkInProgress) -> None:
        self._run_id = run_id
        self._stub = stub
        self._worker = worker
        self._key = key
        self._work = work
        self._down = self._up = Link(None)

    def pace(self, mbps: float | None) -> None:
        """From now on states and updates go over links of so many Mbit/s."""
        self._down, self._up = Link(mbps), Link(mbps)

    async def download(self, sha256: bytes) -> memoryview:
        """The state of that digest, as a blob."""
        if not self._work.clients:
            raise WorkStopped
        return await self._work.transfer(retry(Download(self._stub, self._request(sha256), self._down).attempt))

    async def upload(self, blob: bytes, update: pb.UpdateHeader) -> None:
        """Returns when the client's update is on the coordinator's disk."""
        update.run_id, update.worker, update.key = self._run_id, self._worker, self._key
        self._work.check(update.client)
        await self._work.transfer(retry(Upload(self._stub, blob, update, self._up).attempt), update.client)

    async def fetch_model(self, cache: ModelCache, files: Sequence[ModelFile], show: Callable[[float], None]) -> Path:
        """The base model's files, into the cache: at the link's own pace, since what an experiment states is for the
        rounds."""
        if self._work.over.is_set():
            raise WorkStopped

        async def fetch(file: ModelFile, path: Path, moved: Callable[[int], None]) -> None:
            await retry(FileDownload(self._stub, self._request(file.sha256), path, file.size, moved).attempt)

        return await self._work.transfer(cache.fetch(files, fetch, show))

    def _request(self, sha256: bytes) -> pb.DownloadRequest:
        return pb.DownloadRequest(run_id=self._run_id, sha256=sha256, worker=self._worker, key=self._key)
