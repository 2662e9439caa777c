"""The CPU packages of an x86 host: Linux's powercap counters of energy (Intel RAPL, AMD's too)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.power.source import CountedEnergy, Reading
from federa.errors import one_line

# intel-rapl:N are the packages. intel-rapl:N:M lie within them, psys around them.
_DOMAINS = "sys/class/powercap/intel-rapl:*"


# No package takes so much. A counter that rose faster was set back (a suspended machine's begins again at 0), and one
# that could have gone round more than once since it was read tells nothing.
_MAX_PACKAGE_W = 1000.0
# The counter moves in steps, up to a few milliseconds apart: over so long at least its rise is judged.
_MIN_JUDGED_S = 0.1


@dataclass(frozen=True, slots=True)
class _Counter:
    """One package's. After `range_uj` it begins again at 0."""

    path: Path
    range_uj: int

    def read_uj(self) -> int:
        """Raises OSError or ValueError."""
        return int(self.path.read_text())

    def rise_uj(self, before_uj: int, now_uj: int, elapsed_s: float) -> int | None:
        """What was used in between, or None where the counter does not tell."""
        rise_uj = now_uj - before_uj if now_uj >= before_uj else now_uj - before_uj + self.range_uj
        most_uj = _MAX_PACKAGE_W * 1e6 * max(elapsed_s, _MIN_JUDGED_S)
        went_round_s = self.range_uj / (_MAX_PACKAGE_W * 1e6)
        return rise_uj if 0 <= rise_uj <= most_uj and elapsed_s <= went_round_s else None


class Rapl:
    """Energy as the counters' differences; each reading's power is the mean since the one before it, stamped at its
    end. Raises OSError where there are no counters, or none that may be read."""

    name = "rapl"
    scope: str | None = "package"

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counters: dict[str, _Counter] = {}
        try:
            for domain in sorted(root.glob(_DOMAINS)):
                name = (domain / "name").read_text().strip() if domain.name.count(":") == 1 else ""
                if name.startswith("package"):
                    range_uj = int((domain / "max_energy_range_uj").read_text())
                    self._counters[name] = _Counter(domain / "energy_uj", range_uj)
        except ValueError as problem:
            raise OSError(f"a counter's range is no number: {one_line(problem)}") from None
        if not self._counters:
            raise OSError(f"no package counters under {root / 'sys/class/powercap'}")
        try:
            self._before = (clock(), self._energies_uj())
        except PermissionError:
            # Since CVE-2020-8694.
            raise OSError("the counters can be read by root only") from None
        except ValueError as problem:
            raise OSError(f"a counter is no number: {one_line(problem)}") from None
        self.detail = f"RAPL: {', '.join(self._counters)}"
        self._problem: str | None = None

    def readings(self) -> list[Reading]:
        at_s, (before_s, before_uj) = self._clock(), self._before
        try:
            energies_uj = self._energies_uj()
        except (OSError, ValueError) as problem:
            self._problem = f"no reading: {problem}"  # the next one counts from the last that there was
            return []
        self._problem = None
        if at_s <= before_s:
            return []
        self._before = (at_s, energies_uj)
        elapsed_s = at_s - before_s
        rails_mw: dict[str, float] = {}
        joules = 0.0
        for name, counter in self._counters.items():
            rise_uj = counter.rise_uj(before_uj[name], energies_uj[name], elapsed_s)
            if rise_uj is None:
                self._problem = f"the counter of {name} was set back, or not read for too long ({elapsed_s:.0f} s)"
                return []
            rails_mw[name] = rise_uj / 1e3 / elapsed_s
            joules += rise_uj / 1e6
        counted = CountedEnergy(since_s=before_s, until_s=at_s, joules=joules)
        return [Reading(at_s=at_s, rails_mw=rails_mw, total_mw=sum(rails_mw.values()), counted=counted)]

    def problem(self) -> str | None:
        return self._problem

    def close(self) -> None:
        """Nothing is open."""

    def _energies_uj(self) -> dict[str, int]:
        return {name: counter.read_uj() for name, counter in self._counters.items()}
