"""A peer of an older protocol calls the services by other names: it is told what to do, and so is a newer one."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from live_coordinator import Status, key_of, refused, serving

from coordinator.operator.client import OperatorClient
from coordinator.service.older_peers import SERVICES
from edge.worker.worker import Worker
from federa.config import Experiment
from federa.errors import BadInput
from protos.channel import PROTOCOL, client_options
from tests.doubles.noop import NoopRuntime


@pytest.mark.parametrize("service", SERVICES)
def test_it_is_told_in_one_line_with_a_status_that_it_takes_for_final(tmp_path, service):
    async def scenario(live):
        async with grpc.aio.insecure_channel(live.address, options=client_options()) as channel:
            call = channel.stream_stream(f"/{service}/Control")()
            async with refused(Status.FAILED_PRECONDITION, f"protocol {PROTOCOL}", "install the same federa on both"):
                await call.read()
            once = channel.unary_unary(f"/{service}/Submit")
            async with refused(Status.FAILED_PRECONDITION, f"protocol {PROTOCOL}"):
                await once(b"", timeout=10)

    serving(tmp_path, scenario)


def test_other_methods_are_unknown_as_ever(tmp_path):
    async def scenario(live):
        channel = grpc.aio.insecure_channel(live.address, options=client_options())
        async with channel, refused(Status.UNIMPLEMENTED):
            await channel.unary_unary("/federa.v1.Other/Submit")(b"", timeout=10)

    serving(tmp_path, scenario)


def test_a_worker_and_an_operator_say_so_where_an_older_coordinator_answers():
    async def work():
        server = grpc.aio.server()
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            worker = Worker(runtime=NoopRuntime(), address=address, name="ada", key=key_of("ada"), give_up_after_s=5.0)
            with pytest.raises(BadInput, match=f"no coordinator of protocol {PROTOCOL}: install the same"):
                await asyncio.wait_for(worker.run(), 20)
            async with OperatorClient(address) as operator:
                with pytest.raises(BadInput, match=f"--coordinator: .* no coordinator of protocol {PROTOCOL}"):
                    await operator.submit(Experiment())
        finally:
            await server.stop(grace=0)

    asyncio.run(work())
