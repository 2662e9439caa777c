"""Whether the coordinator answers, by whose certificate, and what time it is there."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

import grpc

from edge.check.result import CheckResult
from edge.worker.retry import rpc_message
from federa.versions import versions
from protos import federation_pb2 as pb
from protos.address import is_loopback
from protos.channel import PROTOCOL, dial
from protos.credentials import DEVICE, BadCredentials, Credentials, read_credentials
from protos.federation_pb2_grpc import WorkerServiceStub
from protos.handshake import find_obstacle
from protos.proxy import Proxy

GREET_S = 10.0
_FEW_DAYS = 30
_SKEW_S = 2.0
_COMPARED = ("federa", "torch", "transformers", "peft")


@dataclass(frozen=True, kw_only=True, slots=True)
class Greeting:
    """A coordinator's answer; its clock was `ahead_s` of ours, known to `give_or_take_s`."""

    reply: pb.GreetReply
    ahead_s: float
    give_or_take_s: float


def check_network(options: argparse.Namespace) -> Iterator[CheckResult]:
    """The certificate, the coordinator, and the clocks."""
    credentials: Credentials | None = None
    if options.certs is not None:
        try:
            credentials = read_credentials(options.certs)
        except BadCredentials as error:
            todo = "put a folder here that federa-certs issue made, or set the clock if it is that which is wrong"
            yield CheckResult(what="certificate", level="failed", found=str(error), todo=todo)
            yield from _unasked(options, "not asked, for want of a certificate")
            return
        yield _certificate(credentials, options.name)
    elif options.coordinator and not options.insecure and (options.proxy or not is_loopback(options.coordinator)):
        todo = "give --certs DIR with a certificate for this device, or --insecure in a network that you trust"
        yield CheckResult(
            what="certificate", level="failed", found="none, and the coordinator is not on this machine", todo=todo
        )
        yield from _unasked(options, "not asked, for want of a certificate")
        return
    else:
        yield CheckResult(what="certificate", found="none: plaintext")
    if options.coordinator is None:
        yield from _unasked(options, "not asked (no --coordinator)")
        return
    try:
        greeting = asyncio.run(greet(options.coordinator, credentials, options.proxy))
    except grpc.aio.AioRpcError as error:
        yield _unanswered(options.coordinator, credentials, options.proxy, error)
        return
    yield _coordinator(options.coordinator, greeting.reply)
    yield _clock(greeting)


async def greet(address: str, credentials: Credentials | None, proxy: Proxy | None = None) -> Greeting:
    """Ask a coordinator who it is. Raises grpc.aio.AioRpcError."""
    async with dial(address, credentials, proxy) as channel:
        stub = WorkerServiceStub(channel)
        deadline_s = time.monotonic() + GREET_S
        # The first call makes the connection: its time is no round trip's.
        await stub.Greet(pb.GreetRequest(protocol=PROTOCOL), timeout=GREET_S)
        sent_s = time.time()
        reply = await stub.Greet(pb.GreetRequest(protocol=PROTOCOL), timeout=max(1.0, deadline_s - time.monotonic()))
        back_s = time.time()
    return Greeting(reply=reply, ahead_s=reply.unix_s - (sent_s + back_s) / 2, give_or_take_s=(back_s - sent_s) / 2)


def _unasked(options: argparse.Namespace, why: str) -> Iterator[CheckResult]:
    if options.coordinator is None:
        yield CheckResult(what="coordinator", found="not asked (no --coordinator)")
    else:
        yield CheckResult(what="coordinator", level="warning", found=why, todo="mend the line above first")


def _certificate(credentials: Credentials, name: str | None) -> CheckResult:
    days = (credentials.not_after - datetime.now(timezone.utc)).days
    found = f"{credentials.role} {credentials.name!r}, serial {credentials.serial:x}, {days} days left"
    if credentials.role != DEVICE:
        todo = f"a worker needs a device's: federa-certs issue {name or 'NAME'}"
        return CheckResult(what="certificate", level="failed", found=found, todo=todo)
    if name is not None and name != credentials.name:
        todo = f"leave --name out, or give --name {credentials.name}"
        return CheckResult(what="certificate", level="failed", found=f"{found}, and --name is {name!r}", todo=todo)
    if days < _FEW_DAYS:
        todo = f"federa-certs issue {credentials.name} makes another; put its folder in place of this one"
        return CheckResult(what="certificate", level="warning", found=found, todo=todo)
    return CheckResult(what="certificate", found=found)


def _unanswered(
    address: str, credentials: Credentials | None, proxy: Proxy | None, error: grpc.aio.AioRpcError
) -> CheckResult:
    code = error.code()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        obstacle = find_obstacle(address, credentials, proxy)
        if obstacle is not None:
            message, _, todo = str(obstacle).partition(": ")
            return CheckResult(
                what="coordinator", level="failed", found=message, todo=todo or "compare both ends' certificates"
            )
        todo = "is it running, is this its address, is the port open in its firewall?"
        found = f"nobody answers at {address} ({' '.join(str(error.details()).split())})"
        return CheckResult(what="coordinator", level="failed", found=found, todo=todo)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        found, todo = (
            f"what answers at {address} is no coordinator of this federa",
            "check the port, and the federa there",
        )
        return CheckResult(what="coordinator", level="failed", found=found, todo=todo)
    todo = "its log says more; a certificate that was revoked is replaced with federa-certs issue"
    return CheckResult(what="coordinator", level="failed", found=f"{address} refuses: {rpc_message(error)}", todo=todo)


def _coordinator(address: str, reply: pb.GreetReply) -> CheckResult:
    theirs, ours = dict(reply.versions), versions()
    found = f"{address} answers: federa {theirs.get('federa', 'unknown')}, protocol {reply.protocol}"
    if reply.protocol != PROTOCOL:
        found += f", here {ours['federa']} with protocol {PROTOCOL}"
        return CheckResult(what="coordinator", level="failed", found=found, todo="install the same federa on both")
    other = _differences(theirs, ours)
    if other:
        todo = "it works, but the same versions give the same results"
        return CheckResult(what="coordinator", level="warning", found=f"{found}; {other}", todo=todo)
    return CheckResult(what="coordinator", found=found)


def _differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """What is not alike; which build of a version of torch it is does not count."""
    found = []
    for name in _COMPARED:
        there, here = theirs.get(name), ours.get(name)
        if there and here and there.partition("+")[0] != here.partition("+")[0]:
            found.append(f"{name} {there} there, {here} here")
    return ", ".join(found)


def _clock(greeting: Greeting) -> CheckResult:
    ahead_s, about_s = greeting.ahead_s, greeting.give_or_take_s
    found = f"{abs(ahead_s):.3g} s {'behind' if ahead_s > 0 else 'ahead of'} the coordinator's (+- {about_s:.2g} s)"
    if abs(ahead_s) > _SKEW_S + about_s:
        todo = "set the clocks of both (sudo timedatectl set-ntp true): certificates count by them"
        return CheckResult(what="clock", level="warning", found=found, todo=todo)
    return CheckResult(what="clock", found=found)
