"""What every source of power readings is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedEnergy:
    """What a counter of energy rose by between two moments of time.monotonic(), the later one greater: exact."""

    since_s: float
    until_s: float
    joules: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The sensors at one moment. What a source does not tell is missing or None, never 0."""

    at_s: float
    """time.monotonic() of the measurement."""
    rails_mw: Mapping[str, float] = field(default_factory=dict)
    total_mw: float | None = None
    """The whole of the source's scope."""
    counted: CountedEnergy | None = None
    """The same scope's energy up to now, of a source that counts it: what its power says is then a picture only."""
    gpu_load: float | None = None
    """Percent."""
    gpu_mhz: float | None = None
    temps_c: Mapping[str, float] = field(default_factory=dict)
    throttled: bool | None = None


class PowerSource(Protocol):
    """One way of measuring. `close` ends whatever it started."""

    name: str
    """sysfs, tegrastats, jtop, nvml, rapl, or 'replay of NAME'."""
    detail: str
    """In one line, what is read."""

    @property
    def scope(self) -> str | None:
        """What the total covers: module, board, package or gpu; None where there is no total."""
        ...

    def readings(self) -> list[Reading]:
        """Everything since the last call, oldest first: one reading of a sensor that is read now, whatever came from a
        source that speaks by itself. Never raises: a sensor that fails is a reading without it, or none."""
        ...

    def problem(self) -> str | None:
        """In one line, what is wrong with it at present."""
        ...

    def close(self) -> None: ...
