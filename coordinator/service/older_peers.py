"""Peers of protocol 4 and older: they call the services by other names, and are told what is wrong."""

from __future__ import annotations

from typing import Any

import grpc

from federa.versions import versions
from protos.channel import PROTOCOL

SERVICES = ("federa.v1.Federation", "federa.v1.Operation")
"""What WorkerService and OperatorService were called up to protocol 4."""


class OlderPeers(grpc.GenericRpcHandler):
    """Answers every call of such a peer with a status that it takes for final, and a line that says what to do."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if handler_call_details.method.split("/")[1:2][0] not in SERVICES:
            return None

        async def refuse(requests: Any, context: Any) -> None:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"this coordinator speaks protocol {PROTOCOL} (federa {versions()['federa']}), the peer an older one: "
                "install the same federa on both",
            )

        return grpc.stream_stream_rpc_method_handler(refuse)
