"""What an operator calls: experiments submitted, watched and ended, and their files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc

from coordinator.experiment_runner import ExperimentRunner
from coordinator.service.file_stream import file_chunks
from federa.config import parse_json
from federa.errors import BadInput
from federa.models.files import file_sha256
from federa.versions import versions
from protos import federation_pb2 as pb
from protos.channel import MAX_WORDS_BYTES, PROTOCOL
from protos.federation_pb2_grpc import OperatorServiceServicer

if TYPE_CHECKING:
    from coordinator.service.server import Coordinator

Context = Any  # grpc.aio.ServicerContext, which has no type parameters at run time


class OperatorService(OperatorServiceServicer):
    """What an operator calls."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitReply:
        if request.protocol != PROTOCOL:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"federa-bench speaks protocol {request.protocol}, the coordinator {PROTOCOL} "
                f"(federa {versions()['federa']}): install the same federa on both",
            )
        try:
            if len(request.experiment_json) > MAX_WORDS_BYTES:
                raise BadInput(f"experiment_json: must have at most {MAX_WORDS_BYTES} bytes")
            if request.experiment_id and not re.fullmatch("[0-9a-f]{1,32}", request.experiment_id):
                raise BadInput("experiment_id: must be up to 32 hex digits, or empty")
            campaign = self._coordinator.submit(parse_json(request.experiment_json), request.experiment_id)
        except BadInput as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise
        return pb.SubmitReply(experiment_id=campaign.experiment_id)

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.Progress]:
        campaign = await self._campaign(request.experiment_id, context)
        async for snapshot in campaign.board.watch():
            yield snapshot

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelReply:
        (await self._campaign(request.experiment_id, context)).cancel()
        return pb.CancelReply()

    async def Fetch(self, request: pb.FetchRequest, context: Context) -> AsyncIterator[pb.Chunk]:
        campaign = await self._campaign(request.experiment_id, context)
        if request.path not in campaign.board.snapshot().files:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"the experiment has no file {request.path!r}")
        path = campaign.path / request.path
        digest = await asyncio.to_thread(file_sha256, path)
        async for chunk in file_chunks(path, digest):
            yield chunk

    async def _campaign(self, experiment_id: str, context: Context) -> ExperimentRunner:
        campaign = self._coordinator.campaigns.get(experiment_id)
        if campaign is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no experiment {experiment_id!r} here")
        assert campaign is not None
        return campaign
