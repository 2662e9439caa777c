"""What a worker can be doing in a run: six phases, by their names on the wire, in the ledger and in reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Phase = Literal["idle", "download", "load", "train", "upload", "evaluate"]

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
IDLE: Final = "idle"
DOWNLOAD: Final = "download"
LOAD: Final = "load"
TRAIN: Final = "train"
UPLOAD: Final = "upload"
EVALUATE: Final = "evaluate"


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """A phase and where in the run it belongs. Round 0 is before the first one; client 0 also stands for none."""

    round: int
    client: int
    phase: str
