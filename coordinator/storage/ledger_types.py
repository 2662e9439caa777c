"""What goes into a ledger and comes out of it, and how it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from federa.errors import FederaError, one_line

ClientFailure = Literal["failed", "refused", "late", "missing"]
"""A training that failed, an update that was refused for what it held, one that came after its round was closed, and
one that had not come when the round was closed."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """The readings of one sensor."""

    count: int
    sum: float
    high: float


class LedgerFailure(FederaError):
    """The ledger cannot be written or read any more."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise LedgerFailure where what is made of a ledger's content inside fails because that is damaged: bits can flip
    where SQLite does not see it."""
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        raise LedgerFailure(f"the ledger {path} is damaged: {type(error).__name__}: {one_line(error)}") from error
