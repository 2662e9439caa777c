"""Why a worker's call is refused."""

from __future__ import annotations

from federa.errors import FederaError


class RunNotReady(FederaError):
    """The run is being prepared or recovered: the same call succeeds later."""


class AuthError(FederaError):
    """A caller is not the worker that it says it is."""


class UpdateRefused(FederaError):
    """An update that cannot be used for what it holds; the message says why."""


class UpdateLate(FederaError):
    """An update that the run does not wait for: of another round, or of a client that has no part in this one."""


class UploadBroken(FederaError):
    """An upload that did not arrive whole: the worker may try again."""
