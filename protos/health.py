"""Health by gRPC's own protocol (grpc.health.v1): served by coordinator and worker, asked for by a container's check.

    python -m protos.health HOST:PORT [--certs DIR]

Exit code 0: what listens there serves; 1: it does not, or nobody listens; 2: bad arguments.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from protos.address import BadAddress, host_port
from protos.channel import client_options
from protos.credentials import BadCredentials, read_credentials

WAIT_S = 5.0
"""A check is given up after so long."""


class Health:
    """What one process says of itself. `add_to` a server; `set_serving` says what holds from then on."""

    def __init__(self, serving: bool) -> None:
        self._servicer = health.aio.HealthServicer()
        self._serving = serving

    async def add_to(self, server: grpc.aio.Server) -> None:
        """Call before the server starts."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        await self.set_serving(self._serving)

    async def set_serving(self, serving: bool) -> None:
        """Whether the process does what it is there for: of the whole process, as no single service is named."""
        status = health_pb2.HealthCheckResponse
        await self._servicer.set("", status.SERVING if serving else status.NOT_SERVING)


def probe(address: str, certs: Path | None = None) -> str | None:
    """None when what listens on `address` serves, else why not, in one line. Raises BadCredentials."""
    if certs is None:
        channel = grpc.insecure_channel(address, options=client_options())
    else:
        channel = grpc.secure_channel(address, read_credentials(certs).channel(), options=client_options())
    with channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
        except grpc.RpcError as error:
            return f"{address}: {error.code().name}: {' '.join(str(error.details()).split())}"
    if reply.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    return f"{address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parse = argparse.ArgumentParser(prog="python -m protos.health", description=__doc__)
    parse.add_argument("address", metavar="HOST:PORT")
    parse.add_argument("--certs", type=Path, metavar="DIR", help="this process's certificate, where TLS is spoken")
    options = parse.parse_args(arguments)
    try:
        host_port(options.address, least_port=1)
        problem = probe(options.address, options.certs)
    except BadAddress as error:
        print(f"federa-health: {error}", file=sys.stderr)
        return 2
    except BadCredentials as error:
        print(f"federa-health: --certs: {error}", file=sys.stderr)
        return 2
    if problem is not None:
        print(f"federa-health: {problem}", file=sys.stderr)
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main())
