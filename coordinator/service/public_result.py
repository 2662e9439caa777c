"""A result as it may be read over HTTP: without words of the data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# What refuses data begins so (federa.data, federa.tasks), wherever it stands in a reason. The rest may quote a file.
_DATA = re.compile(r"\bdata: .*", re.DOTALL)
_INSTEAD = "data: it cannot be used as it is; the coordinator's log and the run's folder say why"


def public_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which reasons that may quote documents, labels or names of columns say only that the data is refused:
    who reaches the port need not be who may read the files."""
    return {**result, "runs": [_run(run) for run in result["runs"]]}


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    failures = [{**entry, "reason": _reason(entry.get("reason"))} for entry in run.get("setbacks") or []]
    return {**run, "failure": _reason(run.get("failure")), "setbacks": failures}


def _reason(text: str | None) -> str | None:
    return None if text is None else _DATA.sub(_INSTEAD, text)
