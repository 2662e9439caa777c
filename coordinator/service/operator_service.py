"""What an operator calls: experiments submitted, watched and ended, and their files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import grpc

from coordinator.experiment_runner import ExperimentRunner
from coordinator.service.file_stream import file_chunks
from federa.config import Experiment, parse_json
from federa.errors import BadInput
from federa.models.files import file_sha256
from federa.versions import versions
from protos import federation_pb2 as pb
from protos.channel import MAX_TEXT_BYTES, PROTOCOL
from protos.federation_pb2_grpc import OperatorServiceServicer

Context = Any  # grpc.aio.ServicerContext, which has no type parameters at run time


class Experiments(Protocol):
    """The experiments that are submitted, by their ids."""

    @property
    def experiments(self) -> Mapping[str, ExperimentRunner]: ...

    async def submit(self, experiment: Experiment, experiment_id: str = "") -> ExperimentRunner: ...

    async def end_early(self, runner: ExperimentRunner) -> None: ...


class OperatorService(OperatorServiceServicer):
    """Answers what an operator calls."""

    def __init__(self, coordinator: Experiments) -> None:
        self._coordinator = coordinator

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitReply:
        if request.protocol != PROTOCOL:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"federa-bench speaks protocol {request.protocol}, the coordinator {PROTOCOL} "
                f"(federa {versions()['federa']}): install the same federa on both",
            )
        try:
            if len(request.experiment_json) > MAX_TEXT_BYTES:
                raise BadInput(f"experiment_json: must have at most {MAX_TEXT_BYTES} bytes")
            if request.experiment_id and not re.fullmatch("[0-9a-f]{1,32}", request.experiment_id):
                raise BadInput("experiment_id: must be up to 32 hex digits, or empty")
            runner = await self._coordinator.submit(parse_json(request.experiment_json), request.experiment_id)
        except BadInput as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise
        return pb.SubmitReply(experiment_id=runner.experiment_id)

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.Progress]:
        runner = await self._runner(request.experiment_id, context)
        async for snapshot in runner.board.watch():
            yield snapshot

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelReply:
        await self._coordinator.end_early(await self._runner(request.experiment_id, context))
        return pb.CancelReply()

    async def Fetch(self, request: pb.FetchRequest, context: Context) -> AsyncIterator[pb.Chunk]:
        runner = await self._runner(request.experiment_id, context)
        if request.path not in runner.board.snapshot().files:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"the experiment has no file {request.path!r}")
        path = runner.path / request.path
        digest = await asyncio.to_thread(file_sha256, path)
        async for chunk in file_chunks(path, digest):
            yield chunk

    async def _runner(self, experiment_id: str, context: Context) -> ExperimentRunner:
        runner = self._coordinator.experiments.get(experiment_id)
        if runner is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no experiment {experiment_id!r} here")
        assert runner is not None
        return runner
