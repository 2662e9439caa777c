"""The plan of a run's rounds, what an earlier process left of them, what happens, and what is decided."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from coordinator.rounds.failures import UNSAID, Failure
from federa.tasks.metric import Better


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What the experiment says (federa.config.Federation). `timed` says that rounds have deadlines."""

    devices: int
    devices_to_start: int
    clients_per_round: int
    over_select: int = 0
    quorum: int
    attempts: int = 3
    timed: bool = False
    rounds: int
    target: float
    better: Better = "higher"
    """Which way the metric is better: whether a value reaches the target from below or from above."""
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundSnapshot:
    """What the ledger holds of the round that an earlier process left open, and of the clients. `reasons` are those of
    the last refusals."""

    hosts: Mapping[int, str]
    round: int
    attempt: int
    selected: Collection[int]
    accepted: Collection[int]
    failed: Collection[int]
    refusals: Mapping[int, int]
    reasons: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """A round's metric, with the seconds and the wire bytes of all rounds until then."""

    value: float
    elapsed_s: float
    wire_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunHistory:
    """What an earlier process left of the rounds. `snapshot` is about the newest, which had been open for `spent_s`
    seconds, or was aggregated, with its metric where it was evaluated, too. `total_s` are all aggregated rounds'."""

    snapshot: RoundSnapshot
    is_aggregated: bool = False
    value: float | None = None
    spent_s: float = 0.0
    curve: tuple[CurvePoint, ...] = ()
    total_s: float = 0.0


# ---- events


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker is ready to train these clients, for the first time or again."""

    worker: str
    clients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """A worker's control stream ended."""

    worker: str


@dataclass(frozen=True, slots=True)
class Unable:
    """A worker is there and cannot take part: it could not prepare."""

    worker: str
    why: Failure = UNSAID


@dataclass(frozen=True, slots=True)
class Accepted:
    """A client's update is durable."""

    round: int
    client: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A client's training failed."""

    round: int
    client: int
    why: Failure = UNSAID


@dataclass(frozen=True, slots=True)
class Refused:
    """A client's update was refused for what it held."""

    round: int
    client: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time of an attempt is up."""

    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The state that a round made has this validation metric."""

    round: int
    value: float


Event = Joined | Left | Unable | Accepted | Failed | Refused | Deadline | Evaluated

# ---- decisions


@dataclass(frozen=True, slots=True)
class Select:
    """The round's attempt draws these clients, in addition to those of earlier attempts."""

    round: int
    attempt: int
    clients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """Let this worker train these clients."""

    round: int
    worker: str
    clients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """The round has its updates: aggregate them, in this order, and evaluate. `missing` are waited for no more."""

    round: int
    clients: tuple[int, ...]
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Pause:
    """The round is below its quorum and nothing more is tried until a worker joins or an update comes."""

    round: int
    accepted: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The run ends without a result: nothing that is waited for would let the round go on. `failures` are the last of
    each client; `is_common` says that they are all the same."""

    round: int
    accepted: int
    failures: Mapping[int, Failure]
    is_common: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over."""

    reached: bool


Decision = Select | Announce | Close | Pause | GiveUp | Finish
