"""Who may call what: every call is held against its certificate, when it begins and for as long as it is open."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote

import grpc
from cryptography import x509

from coordinator.security.revocation import Revocation
from coordinator.service.older_peers import SERVICES as OLDER_SERVICES
from protos.credentials import DEVICE, OPERATOR, ROLES, Certificate, Credentials, certificate_of

log = logging.getLogger("federa.coordinator")

LOOK_S = 1.0
"""How often the calls that are open are held against the list of what is revoked."""
_ROLES = {
    "federa.v1.WorkerService": (DEVICE,),
    "federa.v1.OperatorService": (OPERATOR,),
    "grpc.health.v1.Health": ROLES,
    **dict.fromkeys(OLDER_SERVICES, ROLES),  # they are told what is wrong
}
_METHODS = {"/federa.v1.WorkerService/Greet": ROLES}
Context = Any  # grpc.aio.ServicerContext, which has no type parameters at run time


@dataclass(frozen=True, slots=True)
class _Call:
    certificate: Certificate
    method: str
    context: Context
    task: asyncio.Task[Any]


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Checks what each call may do, on a server that demands certificates of its authority; TLS has checked those. Made
    on the event loop."""

    def __init__(self, credentials: Credentials, revocation: Revocation) -> None:
        self._credentials, self._revocation = credentials, revocation
        self._open: dict[int, _Call] = {}
        self._cutting: set[asyncio.Future[None]] = set()
        self._patrol = asyncio.ensure_future(self._look())

    async def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = await continuation(details)
        return None if handler is None else self._guarded(handler, details.method)

    async def vouch(self, context: Context, worker: str, key: str) -> None:
        """Refuse a call that speaks for another worker than its certificate's, or with a key that is not that one's."""
        certificate = _certificate(context)
        if certificate is None or certificate.name != worker:
            await self._refuse(context, certificate, f"does not speak for a worker {worker[:100]!r}")
        if not hmac.compare_digest(key.encode(), self._credentials.key_of(worker).encode()):
            await self._refuse(context, certificate, "goes with another key than this: install the same federa on both")

    def _guarded(self, handler: Any, method: str) -> Any:
        asks, answers = (
            "stream" if many else "unary" for many in (handler.request_streaming, handler.response_streaming)
        )
        serve = getattr(handler, f"{asks}_{answers}")

        async def one(request: Any, context: Context) -> Any:
            async with self._admitted(context, method):
                return await serve(request, context)

        async def many(request: Any, context: Context) -> None:
            async with self._admitted(context, method):
                replies = serve(request, context)
                if not hasattr(replies, "__aiter__"):
                    await replies  # it writes by itself
                    return
                async with aclosing(replies):
                    async for reply in replies:
                        await context.write(reply)

        make = getattr(grpc, f"{asks}_{answers}_rpc_method_handler")
        guarded = many if handler.response_streaming else one
        return make(guarded, handler.request_deserializer, handler.response_serializer)

    @asynccontextmanager
    async def _admitted(self, context: Context, method: str) -> AsyncIterator[None]:
        certificate = _certificate(context)
        if certificate is None:
            await self._refuse(context, None, "is missing")
        assert certificate is not None
        if why := self._why_not(certificate, method):
            await self._refuse(context, certificate, why)
        task = asyncio.current_task()
        assert task is not None
        self._open[id(context)] = _Call(certificate, method, context, task)
        try:
            yield
        finally:
            self._open.pop(id(context), None)

    def _why_not(self, certificate: Certificate, method: str) -> str:
        """Why a call does not go on, in words; empty where it does."""
        if certificate.serial in self._revocation.serials():
            return "is revoked"
        if why := certificate.untimely(datetime.now(timezone.utc)):
            return why
        service = method.strip("/").partition("/")[0]
        roles = _METHODS.get(method, _ROLES.get(service, ()))
        if certificate.role not in roles:
            wanted = " or ".join(roles) or "nobody"
            return f"may not call {method.strip('/').removeprefix('federa.v1.')}, that is for: {wanted}"
        return ""

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            cut = [(call, why) for call in self._open.values() if (why := self._why_not(call.certificate, call.method))]
            for call, why in cut:
                del self._open[id(call.context)]
                self._cutting.add(cutting := asyncio.ensure_future(self._cut(call, why)))
                cutting.add_done_callback(self._cutting.discard)

    async def _cut(self, call: _Call, why: str) -> None:
        # The status first: a call that is only cancelled says nothing of why. Abort raises, also for a call that has
        # just ended, and it waits for a client that reads nothing.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._refuse(call.context, call.certificate, why), LOOK_S)
        call.task.cancel()

    async def _refuse(self, context: Context, certificate: Certificate | None, why: str) -> None:
        message = f"{certificate or 'a certificate'} {why}"
        log.warning("%s was refused: %s", unquote(context.peer()), message)
        status = grpc.StatusCode.UNAUTHENTICATED if certificate is None else grpc.StatusCode.PERMISSION_DENIED
        await context.abort(status, message)


def _certificate(context: Context) -> Certificate | None:
    shown = (context.auth_context() or {}).get("x509_pem_cert")
    return _parsed(shown[0]) if shown else None


@functools.lru_cache(maxsize=4096)
def _parsed(pem: bytes) -> Certificate:
    return certificate_of(x509.load_pem_x509_certificate(pem))
