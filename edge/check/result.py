"""What a check of this device found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from federa.errors import FederaError, one_line

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """`what` was looked at, and `found` there, in one line each; `todo` says what to do where it is not ok."""

    what: str
    level: Level = "ok"
    found: str
    todo: str = ""


def guarded(what: str, look: Callable[[], Iterator[CheckResult]]) -> Iterator[CheckResult]:
    """All that `look` finds. What it raises is a finding too: the rest is looked at all the same."""
    try:
        yield from look()
    except FederaError as error:
        yield CheckResult(what=what, level="failed", found=str(error), todo="mend what it names")
    except Exception as error:
        yield CheckResult(
            what=what,
            level="failed",
            found=f"{type(error).__name__}: {one_line(error)}",
            todo="report this: it is a bug",
        )
